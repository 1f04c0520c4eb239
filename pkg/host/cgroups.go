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
	v2, err := os.ReadFile(filepath.Join(fs.Dir("", "/"), "cgroup.controllers"))
	if err != nil {
		v2 = nil // no cgroup2: only v1 can have a controller
	}
	for _, c := range controllers {
		f := Finding{group, c.name, OK, "on v1"}
		switch {
		case fs.Has(c.name):
		case c.v2 == "" && fs.Mode() == cgroup.V2:
			f.Got = "cgroup.freeze"
		case slices.Contains(strings.Fields(string(v2)), c.v2):
			f.Got = "on cgroup2"
		default:
			f.Level, f.Got = Fallback, c.without
		}
		all = append(all, f)
	}
	return all
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
