package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Mode is how a machine has mounted its control groups.
type Mode int

// The three layouts that exist in the field.
const (
	V1     Mode = iota + 1 // controllers on v1, no cgroup2 at all
	Hybrid                 // controllers on v1, a cgroup2 beside them
	V2                     // everything on cgroup2
)

// String gives the mode's usual name.
func (m Mode) String() string {
	switch m {
	case V1:
		return "v1"
	case Hybrid:
		return "hybrid"
	case V2:
		return "v2"
	}
	return "unknown"
}

// FS is the control group file systems of this machine. It holds no state but their mount points, and may be used
// from several goroutines.
type FS struct {
	mode Mode
	v2   string      // mount point of cgroup2; empty on V1
	v1   []hierarchy // in order of mounting; empty on V2
}

// hierarchy is one mounted v1 tree. Several controllers may share it ("cpu,cpuacct").
type hierarchy struct {
	mount       string
	controllers []string // "memory", or "name=systemd" for a tree without controllers
}

// mountTable is where Detect reads what is mounted.
const mountTable = "/proc/self/mountinfo"

// Detect reads the mount table of the calling process.
func Detect() (*FS, error) {
	f, err := os.Open(mountTable)
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	defer f.Close()
	fs, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("find control groups in %s: %w", mountTable, err)
	}
	return fs, nil
}

// parseMounts reads a table in the format of proc_pid_mountinfo(5). Of several mounts of one hierarchy the first counts.
func parseMounts(r io.Reader) (*FS, error) {
	fs := &FS{}
	seen := map[string]bool{}
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		mount, fstype, super, ok := parseMount(scan.Text())
		if !ok {
			continue
		}
		switch {
		case fstype == "cgroup2" && fs.v2 == "":
			fs.v2 = mount
		case fstype == "cgroup":
			h := hierarchy{mount: mount, controllers: controllersOf(super)}
			if len(h.controllers) > 0 && !seen[h.controllers[0]] {
				seen[h.controllers[0]] = true
				fs.v1 = append(fs.v1, h)
			}
		}
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	switch {
	case fs.v2 == "" && len(fs.v1) == 0:
		return nil, fmt.Errorf("neither cgroup nor cgroup2 is mounted")
	case fs.v2 == "":
		fs.mode = V1
	case fs.Has("memory") || fs.Has("cpu") || fs.Has("pids"):
		fs.mode = Hybrid
	default:
		// A lone name=systemd tree beside cgroup2 carries no controller: the machine is a v2 one.
		fs.mode, fs.v1 = V2, nil
	}
	return fs, nil
}

// parseMount returns mount point, file system type and super block options of one line.
func parseMount(line string) (mount, fstype, super string, ok bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 5 || len(r) < 3 {
		return "", "", "", false
	}
	return unescape(l[4]), r[0], r[2], true
}

// unescape turns the kernel's octal escapes for blanks in paths back.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// controllersOf picks the controllers out of a v1 super block's options ("rw,cpu,cpuacct", "rw,xattr,name=systemd").
func controllersOf(super string) []string {
	var out []string
	for _, o := range strings.Split(super, ",") {
		switch {
		case strings.HasPrefix(o, "name="), slices.Contains(v1Controllers, o):
			out = append(out, o)
		}
	}
	return out
}

// v1Controllers are the names the kernel uses in the options of a v1 mount (Documentation/admin-guide/cgroup-v1).
var v1Controllers = []string{
	"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids",
	"hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc",
}

// Mode says how this machine has mounted its control groups.
func (f *FS) Mode() Mode { return f.mode }

// Version is what docker info shows: "2" on a pure v2 machine, else "1".
func (f *FS) Version() string {
	if f.mode == V2 {
		return "2"
	}
	return "1"
}

// Has reports whether a v1 hierarchy carries the controller.
func (f *FS) Has(controller string) bool { return f.v1Mount(controller) != "" }

// Notes says what this layout cannot give, for start-up logs and docker info.
func (f *FS) Notes() []string {
	if f.mode != V1 {
		return nil
	}
	return []string{"no cgroup2 is mounted: no pressure information, no control group ids for probes, " +
		"kills by walking processes; mount a cgroup2 beside the v1 controllers (hybrid) to get them"}
}

// Dir is the directory of path in the hierarchy of a v1 controller, or in cgroup2 for the empty controller or on a
// V2 machine; empty where that hierarchy does not exist.
func (f *FS) Dir(controller, path string) string {
	mount := f.v2
	if controller != "" && f.mode != V2 {
		mount = f.v1Mount(controller)
	}
	if mount == "" {
		return ""
	}
	return mount + clean(path)
}

// UnifiedDir is the directory of path in the unified hierarchy; empty where there is none.
func (f *FS) UnifiedDir(path string) string {
	if f.v2 == "" {
		return ""
	}
	return f.v2 + "/" + strings.TrimPrefix(path, "/")
}

func (f *FS) v1Mount(controller string) string {
	for _, h := range f.v1 {
		if slices.Contains(h.controllers, controller) {
			return h.mount
		}
	}
	return ""
}

// mounts lists every hierarchy's mount point, cgroup2 first.
func (f *FS) mounts() []string {
	out := make([]string, 0, len(f.v1)+1)
	if f.v2 != "" {
		out = append(out, f.v2)
	}
	for _, h := range f.v1 {
		out = append(out, h.mount)
	}
	return out
}
