package main

import "testing"

func TestVersionNeedsNoRights(t *testing.T) {
	for _, arg := range []string{"version", "--version", "-version"} {
		if code := run([]string{arg}); code != 0 {
			t.Errorf("tritond %s: exit code %d", arg, code)
		}
	}
}
