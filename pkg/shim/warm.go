package shim

import (
	"encoding/json"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// warm does in a shim that waits in the pool what is slow only for the first time: the codecs of the types that create reads
// and writes are built by reflection, the pages of the program are mapped, and Go tries once, with a child, what the kernel's
// pidfds can do. Nothing of it is kept.
func warm() error {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Release()
	}
	limit, yes := int64(1<<26), true
	spec := specs.Spec{
		Version: specs.Version, Hostname: "warm", Root: &specs.Root{},
		Process: &specs.Process{
			Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin"}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 1}},
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755"}},
			{Destination: "/etc/hosts", Type: "bind", Source: "/dev/null", Options: []string{"rbind", "rprivate"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}},
			Devices:    []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}},
			Resources: &specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: &limit}, CPU: &specs.LinuxCPU{Quota: &limit}, Pids: &specs.LinuxPids{Limit: &limit},
				Devices: []specs.LinuxDeviceCgroup{{Allow: yes, Access: "rwm"}},
			},
			Seccomp: &specs.LinuxSeccomp{
				DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo}}}},
			},
			Sysctl: map[string]string{"net.ipv4.ip_forward": "0"}, MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	oci, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	id := triton.NewID()
	body, err := json.Marshal(CreateRequest{
		Key: triton.ContainerKey{Tenant: "warm", ID: id}, OCI: oci, CgroupPath: "/" + id, RunDir: "/" + id, ExitDir: "/" + id,
		UserNS: "/proc/self/ns/user", IDs: triton.IDRange{Base: 1 << 20, Size: 1 << 16},
	})
	if err != nil {
		return err
	}
	req, err := decode[CreateRequest](Request{Body: body})
	if err != nil {
		return err
	}
	read, err := checkCreate(&req)
	if err != nil {
		return err
	}
	cfg, err := containerConfig(&req, read, "/"+id)
	if err != nil {
		return err
	}
	_, err = json.Marshal(libcontainer.State{BaseState: libcontainer.BaseState{Config: *cfg}})
	return err
}
