package node

import (
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestCreateWarnsOfWhatAnImageAsksInVain(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec triton.Spec
		want []string
	}{
		{"plain", triton.Spec{}, nil},
		{"healthcheck", triton.Spec{ImageHealthcheck: []string{"CMD", "true"}}, []string{"healthcheck"}},
		{"healthcheck switched off", triton.Spec{ImageHealthcheck: []string{"NONE"}}, nil},
		{"volumes are made", triton.Spec{Volumes: []string{"/data"}, ImageHealthcheck: []string{"CMD-SHELL", "x"}}, []string{"healthcheck"}},
	} {
		got := imageWarnings(&tt.spec)
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %q, want %d warnings", tt.name, got, len(tt.want))
			continue
		}
		for i, w := range tt.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%s: warning %q does not name %q", tt.name, got[i], w)
			}
		}
	}
}
