package probes

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var updateVerified = flag.Bool("update-verified", false, "write the verifier's counts of this kernel to testdata")

// mayGrow is by how much a count may differ before somebody must look: what is below is the compiler's noise and small
// changes; a bounded loop that the verifier begins to walk shows as a multiple.
const mayGrow, mayGrowBy = 1.25, 200

// verifiedFile has the counts of this kernel, one line each: object, program, instructions.
func verifiedFile(t *testing.T) string {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return filepath.Join("testdata", fmt.Sprintf("verified-%d.%d", major, minor))
}

// TestKernelTakesEveryProgram: on the kernels that are tested each program runs, itself or as its stated alternative, and
// what the verifier goes through for it has not jumped since the counts were written down (-update-verified).
func TestKernelTakesEveryProgram(t *testing.T) {
	all, err := Survey()
	if err != nil {
		t.Fatal(err)
	}
	var now strings.Builder
	for _, s := range all {
		t.Logf("%s %s runs as %q: %d instructions verified", s.Object, s.Program, s.As, s.Instructions)
		fmt.Fprintf(&now, "%s %s %d\n", s.Object, s.As, s.Instructions)
		if s.As == "" {
			t.Errorf("%s %s: %v\n%s", s.Object, s.Program, s.Reason, verifierSays(s.Reason))
		}
	}
	file := verifiedFile(t)
	if *updateVerified {
		if err := os.WriteFile(file, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t.Logf("no counts were written down on this kernel: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	compareVerified(t, string(golden), all)
}

// verifierSays is the end of the verifier's log in an error.
func verifierSays(err error) string {
	var verdict *ebpf.VerifierError
	if !errors.As(err, &verdict) {
		return ""
	}
	return strings.Join(verdict.Log[max(0, len(verdict.Log)-40):], "\n")
}

// compareVerified reports programs whose counts differ by more than is allowed.
func compareVerified(t interface {
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}, golden string, all []Surveyed) {
	counts := map[string]uint32{}
	for line := range strings.Lines(golden) {
		var object, program string
		var n uint32
		if _, err := fmt.Sscan(line, &object, &program, &n); err != nil {
			t.Errorf("counts: %q: %v", line, err)
			continue
		}
		counts[object+" "+program] = n
	}
	for _, s := range all {
		if s.As == "" {
			continue
		}
		was, ok := counts[s.Object+" "+s.As]
		now := float64(s.Instructions)
		switch {
		case !ok:
			t.Logf("%s %s has no count to compare with: -update-verified writes it", s.Object, s.As)
		case now > float64(was)*mayGrow+mayGrowBy, now*mayGrow+mayGrowBy < float64(was):
			t.Errorf("%s %s: the verifier goes through %d instructions, it was %d", s.Object, s.As, s.Instructions, was)
		}
	}
}

// failures collects what a test would report.
type failures struct{ said []string }

func (f *failures) Errorf(format string, args ...any) {
	f.said = append(f.said, fmt.Sprintf(format, args...))
}
func (f *failures) Logf(string, ...any) {}

// TestJumpsOfVerifiedInstructionsAreSeen: small changes pass, and a jump in either direction does not.
func TestJumpsOfVerifiedInstructionsAreSeen(t *testing.T) {
	for now, want := range map[uint32]int{1000: 0, 1100: 0, 1449: 0, 1451: 1, 9000: 1, 700: 0, 600: 1} {
		var f failures
		compareVerified(&f, "measure sys_exit 1000\n", []Surveyed{{Object: "measure", Program: "sys_exit", As: "sys_exit", Instructions: now}})
		if len(f.said) != want {
			t.Errorf("1000 before and %d now: %q", now, f.said)
		}
	}
}
