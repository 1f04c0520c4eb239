package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
)

// Limits is what this machine allows a container. The zero value allows no capability and knows of no other limit.
type Limits struct {
	Capabilities   []string          // of the daemon's bounding set, CAP_… names
	Rlimits        map[string]uint64 // own hard limits by docker's names; absent: no limit
	MinOomScoreAdj int               // lower values need CAP_SYS_RESOURCE
	CPUs           int               // for --cpus; 0: not checked
	CpusetCPUs     string            // "0-3"; empty: not checked
	CpusetMems     string
	SwapLimit      bool
	OomKillDisable bool // v1 only
	Swappiness     bool // v1 only
	BlkioWeight    bool
	// BlkioWeightDevice and BlkioThrottle are the limits of single block devices.
	BlkioWeightDevice, BlkioThrottle bool
	// Idmap reports whether the mount at a path (recursive: and those below it) can be mapped by a user namespace; nil:
	// it can. See Idmappable.
	Idmap func(userNS, path string, recursive bool) error
	// Shared tells how the mount that holds a path passes mounts on; nil: reads /proc/self/mountinfo.
	Shared func(path string) (shared, slave bool, err error)
}

// DetectLimits looks at the calling process and the control groups. group is a control group of ours that exists: some
// files do not exist in the root.
func DetectLimits(cg *cgroup.FS, group string) (Limits, error) {
	lim := Limits{CPUs: runtime.NumCPU(), Idmap: Idmappable}
	var err error
	if lim.Capabilities, err = boundingSet(); err != nil {
		return Limits{}, err
	}
	raise := slices.Contains(lim.Capabilities, "CAP_SYS_RESOURCE")
	if !raise {
		if lim.Rlimits, err = hardLimits(); err != nil {
			return Limits{}, err
		}
		if lim.MinOomScoreAdj, err = ownOomScoreAdj(); err != nil {
			return Limits{}, err
		}
	} else {
		lim.MinOomScoreAdj = -1000
	}
	v2 := cg.Mode() == cgroup.V2
	lim.OomKillDisable = !v2
	lim.SwapLimit = hasFile(cg, "memory", group, "memory.memsw.limit_in_bytes", "memory.swap.max")
	lim.BlkioWeight = hasFile(cg, "blkio", group, "blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight")
	lim.BlkioWeightDevice = hasFile(cg, "blkio", group, "blkio.weight_device", "blkio.bfq.weight_device", "io.bfq.weight")
	lim.BlkioThrottle = hasFile(cg, "blkio", group, "blkio.throttle.read_bps_device", "io.max")
	lim.Swappiness = hasFile(cg, "memory", group, "memory.swappiness")
	lim.CpusetCPUs = readList(cg, group, "cpuset.effective_cpus", "cpuset.cpus.effective")
	lim.CpusetMems = readList(cg, group, "cpuset.effective_mems", "cpuset.mems.effective")
	return lim, nil
}

func boundingSet() ([]string, error) {
	c, err := capability.NewPid2(0)
	if err == nil {
		err = c.Load()
	}
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	var have []capability.Cap
	for _, k := range capability.ListKnown() {
		if c.Get(capability.BOUNDING, k) {
			have = append(have, k)
		}
	}
	return capNames(have), nil
}

func hardLimits() (map[string]uint64, error) {
	out := map[string]uint64{}
	for name, n := range rlimitNumbers {
		var r unix.Rlimit
		if err := unix.Getrlimit(n, &r); err != nil {
			return nil, fmt.Errorf("read own limit %s: %w", name, err)
		}
		if r.Max != unix.RLIM_INFINITY {
			out[name] = r.Max
		}
	}
	return out, nil
}

func ownOomScoreAdj() (int, error) {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read own oom score: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// hasFile reports whether one of the files exists in the group's directory of the controller.
func hasFile(cg *cgroup.FS, controller, group string, names ...string) bool {
	dir := cg.Dir(controller, group)
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(dir, n)); dir != "" && err == nil {
			return true
		}
	}
	return false
}

// readList returns the content of the first file that exists; empty when none does, and nothing is checked then.
func readList(cg *cgroup.FS, group string, names ...string) string {
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(cg.Dir("cpuset", group), n)); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// checkShared refuses a source whose mount does not pass mounts on as wished; slaveToo: a slave will do.
func (l Limits) checkShared(source string, slaveToo bool) error {
	look := l.Shared
	if look == nil {
		look = mountSharing
	}
	shared, slave, err := look(source)
	switch {
	case err != nil:
		return err
	case shared || slaveToo && slave:
		return nil
	}
	where := "a file system"
	if m, err := mountOf(source); err == nil {
		where = m.Mountpoint
	}
	if slaveToo {
		return invalid("path %s is mounted on %s but it is not a shared or slave mount", source, where)
	}
	return invalid("path %s is mounted on %s but it is not a shared mount", source, where)
}

// mountSharing reads the propagation of the mount that holds path.
func mountSharing(path string) (shared, slave bool, err error) {
	m, err := mountOf(path)
	if err != nil {
		return false, false, err
	}
	for _, o := range strings.Fields(m.Optional) {
		shared = shared || strings.HasPrefix(o, "shared:")
		slave = slave || strings.HasPrefix(o, "master:")
	}
	return shared, slave, nil
}
