package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritond/triton/pkg/cgroup"
)

// controllers are those that limits and readings need, by what a container lacks without one.
var controllers = []struct{ name, v2, without string }{
	{"memory", "memory", "no memory limits, no memory readings"},
	{"cpu", "cpu", "no --cpus, no --cpu-shares"},
	{"cpuset", "cpuset", "no --cpuset-cpus"},
	{"pids", "pids", "no --pids-limit: a fork bomb takes the machine"},
	{"blkio", "io", "no --device-*-bps, no disk readings"},
	{"freezer", "", "no docker pause"},
}

func cgroups(context.Context, Config) []Finding {
	const group = "control groups"
	fs, err := cgroup.Detect()
	if err != nil {
		return []Finding{{group, "layout", Missing, err.Error()}}
	}
	layout := Finding{group, "layout", OK, fs.Mode().String()}
	if notes := fs.Notes(); len(notes) > 0 {
		layout.Level, layout.Got = Fallback, fs.Mode().String()+": "+strings.Join(notes, "; ")
	}
	all := []Finding{layout, writable(fs)}
	for _, c := range controllers {
		f := Finding{group, c.name, OK, where(fs, c.name, c.v2)}
		if f.Got == "" {
			f.Level, f.Got = Fallback, c.without
		}
		all = append(all, f)
	}
	return all
}

// where says which hierarchy has a controller, v2 being its name on cgroup2; "": none has it.
func where(fs *cgroup.FS, v1, v2 string) string {
	if fs.Has(v1) {
		return "on v1"
	}
	if v2 == "" && fs.Mode() == cgroup.V2 {
		return "cgroup.freeze"
	}
	have, err := os.ReadFile(filepath.Join(fs.Dir("", "/"), "cgroup.controllers"))
	if err == nil && slices.Contains(strings.Fields(string(have)), v2) { // an error: no cgroup2, only v1 can have it
		return "on cgroup2"
	}
	return ""
}

// Controllers tells which controllers the machine has, by their names on v1: memory, cpu, cpuset, pids, blkio, freezer.
func Controllers(fs *cgroup.FS) map[string]bool {
	have := map[string]bool{}
	for _, c := range controllers {
		have[c.name] = where(fs, c.name, c.v2) != ""
	}
	return have
}

// SwapLimits tells whether the swap of the control group at path can be limited.
func SwapLimits(fs *cgroup.FS, path string) bool {
	for _, file := range []string{"memory.memsw.limit_in_bytes", "memory.swap.max"} {
		if _, err := os.Stat(filepath.Join(fs.Dir("memory", path), file)); err == nil {
			return true
		}
	}
	return false
}

// writable tries to make a group, which is the only test that sees a read-only mount and a container without the right.
func writable(fs *cgroup.FS) Finding {
	dir := fs.Dir("", "/")
	if dir == "" {
		dir = fs.Dir("memory", "/")
	}
	made, err := os.MkdirTemp(dir, "triton-check-")
	if err == nil {
		err = os.Remove(made)
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return grade("control groups", "may be made", err, dir, Missing, "no container can have a control group")
}
