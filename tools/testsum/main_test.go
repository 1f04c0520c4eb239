package main

import (
	"strings"
	"testing"
)

func TestSumCountsWhatGoTestReports(t *testing.T) {
	for name, tc := range map[string]struct {
		events         []string
		passed, failed int
		shows          string
	}{
		"pass": {[]string{`{"Action":"pass","Package":"p","Test":"A"}`, `{"Action":"pass","Package":"p"}`}, 1, 0, ""},
		"fail": {[]string{`{"Action":"output","Package":"p","Test":"A","Output":"why\n"}`,
			`{"Action":"fail","Package":"p","Test":"A"}`, `{"Action":"fail","Package":"p"}`}, 0, 1, "why"},
		"skip":          {[]string{`{"Action":"pass","Package":"p","Test":"A"}`, `{"Action":"skip","Package":"p","Test":"B"}`}, 1, 1, "skipped"},
		"no test files": {[]string{`{"Action":"skip","Package":"q"}`, `{"Action":"pass","Package":"p","Test":"A"}`}, 1, 0, ""},
		"does not build": {[]string{`{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}`,
			`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`}, 0, 1, "undefined: x"},
		"panics":  {[]string{`{"Action":"output","Package":"p","Output":"panic: no\n"}`, `{"Action":"fail","Package":"p"}`}, 0, 1, "panic: no"},
		"nothing": {nil, 0, 1, "no test ran"},
	} {
		var out strings.Builder
		passed, failed := sum(strings.NewReader(strings.Join(tc.events, "\n")), &out)
		if passed != tc.passed || failed != tc.failed || !strings.Contains(out.String(), tc.shows) {
			t.Errorf("%s: got %d passed, %d failed, %q, want %d, %d, %q", name, passed, failed, out.String(), tc.passed, tc.failed, tc.shows)
		}
	}
}
