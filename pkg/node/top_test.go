package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestParsePSKeepsTheContainersRowsAndTheirThreads(t *testing.T) {
	out := "UID   PID TTY CMD\nroot    1 ?   init\nroot   77 ?   sh -c sleep 9\nroot    - -   -\nroot   78 ?   other\nroot    - -   -\n"
	got, err := parsePS([]byte(out), []int{77})
	want := triton.ProcessTable{
		Titles:    []string{"UID", "PID", "TTY", "CMD"},
		Processes: [][]string{{"root", "77", "?", "sh -c sleep 9"}, {"root", "-", "-", "-"}},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("error %v (-want +got):\n%s", err, d)
	}
}

func TestParsePSNeedsThePIDColumn(t *testing.T) {
	for _, out := range []string{"", "CMD\nsh\n", "PID CMD\nsh 1\n"} {
		if got, err := parsePS([]byte(out), []int{1}); err == nil {
			t.Errorf("%q: %v, want an error", out, got)
		}
	}
}

func TestPSOptionsMustNotPassAnotherColumnForThePID(t *testing.T) {
	for options, ok := range map[string]bool{"": true, "-ef": true, "-o pid=PID": true, "-o ppid=PID": false, "ppid=PIDS": false} {
		if err := checkPSOptions(options); (err == nil) != ok {
			t.Errorf("%q: %v", options, err)
		}
	}
}

func FuzzParsePS(f *testing.F) {
	f.Add([]byte("UID PID CMD\nroot 1 a b c\nroot - -\n"))
	f.Add([]byte("PID\n1\n\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		table, err := parsePS(out, []int{1})
		if err != nil {
			return
		}
		for _, row := range table.Processes {
			if len(row) > len(table.Titles) {
				t.Errorf("row of %d cells under %d titles", len(row), len(table.Titles))
			}
		}
	})
}

func TestRunPSBoundsWhatItKeeps(t *testing.T) {
	b := bounded{room: 4}
	if n, err := b.Write([]byte("abcd")); n != 4 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := b.Write([]byte("e")); err == nil || string(b.kept) != "abcd" {
		t.Errorf("kept %q, %v", b.kept, err)
	}
}
