package triton

import (
	"strings"
	"testing"
)

func TestExitCodeOfWaitStatus(t *testing.T) {
	for _, tt := range []struct {
		status       uint32
		code, signal int
	}{
		{0, 0, 0}, {37 << 8, 37, 0}, {255 << 8, 255, 0}, {9, 137, 9}, {11 | 0x80, 139, 11}, {15, 143, 15},
	} {
		code, signal := ExitCodeOf(tt.status)
		if code != tt.code || signal != tt.signal {
			t.Errorf("ExitCodeOf(%#x) = %d, %d, want %d, %d", tt.status, code, signal, tt.code, tt.signal)
		}
	}
}

func TestNewIDIsNeverANumber(t *testing.T) {
	for range 1000 {
		id := NewID()
		if !ValidID(id) || !strings.ContainsAny(id[:12], "abcdef") {
			t.Fatalf("NewID() = %q", id)
		}
	}
}

func TestTenantNamesCannotLeaveTheirPlace(t *testing.T) {
	for _, bad := range []Tenant{"", "..", "a/b", "A", "-a", "a-", "a b", Tenant(strings.Repeat("a", 41))} {
		if bad.Validate() == nil {
			t.Errorf("tenant %q was accepted", bad)
		}
	}
	for _, good := range []Tenant{"default", "a", "team-1"} {
		if err := good.Validate(); err != nil {
			t.Errorf("tenant %q: %v", good, err)
		}
	}
}

func TestPrivilegedAndHostNamespacesHaveNoUserNamespace(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec Spec
		want bool
	}{
		{"plain", Spec{}, true},
		{"none", Spec{NetworkMode: ModeNone}, true},
		{"joined", Spec{NetworkMode: "container:x"}, true},
		{"privileged", Spec{Privileged: true}, false},
		{"host network", Spec{NetworkMode: ModeHost}, false},
		{"host pid", Spec{PidMode: ModeHost}, false},
		{"host ipc", Spec{IpcMode: ModeHost}, false},
		{"userns=host", Spec{UsernsMode: ModeHost}, false},
	} {
		if got := tt.spec.UserNamespace(); got != tt.want {
			t.Errorf("%s: UserNamespace() = %v, want %v", tt.name, got, tt.want)
		}
	}
}
