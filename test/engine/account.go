package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Account is a cgroup that a daemon is started in, so that the CPU time of it and of all that it starts is known,
// of processes that ended long ago too. It touches only the hierarchy that counts CPU time: cpuacct on v1, or v2.
type Account struct{ dirs []string }

// cpuHierarchies are where CPU time is counted, in the order of preference.
var cpuHierarchies = []string{"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"}

// NewAccount makes the cgroup /name. containers names the top-level cgroup that the engine puts containers in, which
// it makes itself; it is counted as well.
func NewAccount(name, containers string) (*Account, error) {
	for _, h := range cpuHierarchies {
		if _, err := os.Stat(filepath.Join(h, "cgroup.procs")); err != nil {
			continue
		}
		a := &Account{dirs: []string{filepath.Join(h, name), filepath.Join(h, containers)}}
		return a, os.Mkdir(a.dirs[0], 0o755)
	}
	return nil, fmt.Errorf("no cgroup hierarchy counts CPU time")
}

// Wrap makes argv move itself into the cgroup before it runs. A nil Account changes nothing.
func (a *Account) Wrap(argv []string) []string {
	if a == nil {
		return argv
	}
	script := `echo $$ >"$0/cgroup.procs" && exec "$@"`
	return append([]string{"/bin/sh", "-c", script, a.dirs[0]}, argv...)
}

// CPU returns what was used so far.
func (a *Account) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, dir := range a.dirs {
		d, err := cgroupCPU(dir)
		if err != nil && !os.IsNotExist(err) {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

func cgroupCPU(dir string) (time.Duration, error) {
	if b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return time.Duration(ns), err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat has no usage_usec", dir)
}

// Close removes the cgroup once its processes are gone.
func (a *Account) Close() error { return removeCgroup(a.dirs[0]) }
