package main

import "testing"

func TestVersionNeedsNoDaemon(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nosuch")
	for want, args := range map[int][]string{0: {"--version"}, 1: {"version"}, 2: {"--nosuch"}} {
		if got := run(args); got != want {
			t.Errorf("triton %s: exit code %d, want %d", args, got, want)
		}
	}
}
