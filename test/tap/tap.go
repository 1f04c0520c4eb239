// Package tap owns the reports of node's test runner: each of its tests becomes one of Go's. It runs nothing itself.
package tap

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

var result = regexp.MustCompile(`^(not )?ok \d+ - (.+?)(?: # .*)?$`)

// Report makes each test of files that out tells of a subtest of t: failed where it failed or was skipped. It returns how
// many there were, and the lines that say more about them.
func Report(t *testing.T, out []byte) (n int, about string) {
	t.Helper()
	var rest strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20) // a test may print an answer whole
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "    ")
		m := result.FindStringSubmatch(line)
		if m == nil || strings.HasSuffix(m[2], ".mjs") { // a file
			fmt.Fprintln(&rest, line)
			continue
		}
		n++
		t.Run(m[2], func(t *testing.T) {
			if m[1] != "" || strings.Contains(line, "# SKIP") || strings.Contains(line, "# TODO") {
				t.Error(line)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Errorf("read the report: %v", err)
	}
	return n, rest.String()
}
