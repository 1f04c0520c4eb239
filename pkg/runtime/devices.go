package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// devices lists the nodes beyond the runtime library's own (null, zero, full, random, urandom, tty, console, ptmx) and
// the rules of the device control group.
func (b *builder) devices() error {
	rules := defaultDeviceRules()
	if b.c.Privileged {
		host, err := oci.HostDevices()
		if err != nil {
			return err
		}
		b.s.Linux.Devices = host
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"})
	}
	for _, d := range b.c.Devices {
		if b.c.Privileged && d.HostPath == d.ContainerPath {
			continue // there already
		}
		nodes, err := deviceNodes(d)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			b.addDevice(n)
			rules = append(rules, specs.LinuxDeviceCgroup{
				Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: permissions(d),
			})
		}
	}
	for _, r := range b.c.DeviceRules {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: r.Type, Major: r.Major, Minor: r.Minor, Access: r.Permissions})
	}
	b.s.Linux.Resources.Devices = rules
	return nil
}

// blockLimits finds the devices whose I/O is limited by their numbers.
func (b *builder) blockLimits() error {
	if len(b.c.BlockLimits) == 0 {
		return nil
	}
	io := b.s.Linux.Resources.BlockIO
	if io == nil {
		io = &specs.LinuxBlockIO{}
		b.s.Linux.Resources.BlockIO = io
	}
	lists := map[triton.BlockLimitKind]*[]specs.LinuxThrottleDevice{
		triton.BlockReadBps: &io.ThrottleReadBpsDevice, triton.BlockWriteBps: &io.ThrottleWriteBpsDevice,
		triton.BlockReadIOps: &io.ThrottleReadIOPSDevice, triton.BlockWriteIOps: &io.ThrottleWriteIOPSDevice,
	}
	for _, l := range b.c.BlockLimits {
		var st unix.Stat_t
		if err := unix.Stat(l.Path, &st); err != nil {
			return invalid("block I/O limit: stat %s: %v", l.Path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return invalid("block I/O limit: %s is not a block device", l.Path)
		}
		major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		list, throttle := lists[l.Kind]
		switch {
		case throttle && !b.in.Limits.BlkioThrottle:
			return invalid("block I/O limit of %s: the kernel of this machine cannot throttle block devices", l.Path)
		case throttle:
			d := specs.LinuxThrottleDevice{Rate: l.Value}
			d.Major, d.Minor = major, minor
			*list = append(*list, d)
		case l.Kind != triton.BlockWeight:
			return invalid("block I/O limit of %s: unknown kind %q", l.Path, l.Kind)
		case !b.in.Limits.BlkioWeightDevice:
			return invalid("block I/O weight of %s: the kernel of this machine has no I/O scheduler with weights for devices", l.Path)
		default:
			weight := uint16(l.Value)
			d := specs.LinuxWeightDevice{Weight: &weight}
			d.Major, d.Minor = major, minor
			io.WeightDevice = append(io.WeightDevice, d)
		}
	}
	return nil
}

// addDevice shows a node. In a user namespace nothing can make nodes: the runtime library binds the host's node of the
// same path, so one with another name in the container is bound here. Its owner appears as nobody there.
func (b *builder) addDevice(n deviceNode) {
	if !b.userNS() || n.host == n.Path {
		b.s.Linux.Devices = append(b.s.Linux.Devices, n.LinuxDevice)
		return
	}
	b.deviceBinds = append(b.deviceBinds, specs.Mount{
		Destination: n.Path, Type: "bind", Source: n.host, Options: []string{"bind", "rprivate", "nosuid", "noexec"},
	})
}

// deviceNode is a node of the host under its name in the container.
type deviceNode struct {
	specs.LinuxDevice
	host string
}

// defaultDeviceRules are docker's: nothing, but a few memory devices, tty and console; not fuse (10:229).
func defaultDeviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range []struct {
		allow        bool
		major, minor int64
	}{
		{true, 1, 5}, {true, 1, 3}, {true, 1, 9}, {true, 1, 8}, {true, 5, 0}, {true, 5, 1}, {false, 10, 229},
	} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: d.allow, Type: "c", Major: &d.major, Minor: &d.minor, Access: "rwm"})
	}
	return rules
}

func permissions(d triton.Device) string {
	if d.Permissions == "" {
		return "rwm"
	}
	return d.Permissions
}

// deviceNodes finds the node at a host path, or all nodes below a directory.
func deviceNodes(d triton.Device) ([]deviceNode, error) {
	if strings.Trim(d.Permissions, "rwm") != "" {
		return nil, invalid("invalid device permissions %q for %s", d.Permissions, d.HostPath)
	}
	target := d.ContainerPath
	if target == "" {
		target = d.HostPath
	}
	if !filepath.IsAbs(target) {
		return nil, invalid("device path %q in the container must be absolute", target)
	}
	path, err := filepath.EvalSymlinks(d.HostPath)
	if err != nil {
		return nil, invalid("error gathering device information while adding custom device %q: %v", d.HostPath, rootCause(err))
	}
	dev, err := oci.DeviceFromPath(path)
	if err == nil {
		dev.Path = target
		return []deviceNode{{*dev, path}}, nil
	}
	nodes := nodesBelow(path, target)
	if len(nodes) == 0 {
		return nil, invalid("error gathering device information while adding custom device %q: not a device node", d.HostPath)
	}
	return nodes, nil
}

// nodesBelow lists the device nodes of a directory tree under their names in the container. What is not one is passed over.
func nodesBelow(dir, target string) []deviceNode {
	var nodes []deviceNode
	walk := func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			if dev, err := oci.DeviceFromPath(path); err == nil && dev.Type != "p" {
				dev.Path = filepath.Join(target, strings.TrimPrefix(path, dir))
				nodes = append(nodes, deviceNode{*dev, path})
			}
		}
		return nil // the walk goes on past what cannot be read
	}
	if err := filepath.WalkDir(dir, walk); err != nil {
		return nil // walk returns no error
	}
	return nodes
}

// rootCause strips the operation and path of a file error: the message around it names them.
func rootCause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
