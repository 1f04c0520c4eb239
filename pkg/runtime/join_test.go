package runtime

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// joining makes the configuration of a bundle again, for a container that joins another.
func (r *rig) joining(peer *Task, pb Bundle, change func(*triton.Spec), script string) Bundle {
	r.Helper()
	b := r.bundle(1, nil, script)
	change(b.Spec)
	in := Input{
		Key: b.Key, Spec: b.Spec, IDs: pb.Endpoint.IDs, Rootfs: Layers{testLayer}, CgroupPath: b.CgroupPath,
		Peers: map[string]Peer{pb.Key.ID: {Pid: peer.Pid(), IDs: pb.Endpoint.IDs, UserNS: pb.Endpoint.UserNS}},
	}
	var err error
	in.Limits, err = DetectLimits(r.cg, in.CgroupPath)
	r.must(err)
	b.OCI, _, err = Spec(in)
	r.must(err)
	b.Endpoint = triton.Endpoint{Slot: -1}
	return b
}

func TestKernelJoinedContainersShareNamespaces(t *testing.T) {
	r := newRig(t)
	pb := r.bundle(0, nil, "exec sleep 60")
	peer := r.create(pb)
	r.must(peer.Start(r.ctx()))
	b := r.joining(peer, pb, func(s *triton.Spec) {
		s.NetworkMode = triton.ContainerModePrefix + pb.Key.ID
		s.PidMode = triton.ContainerModePrefix + pb.Key.ID
	}, "readlink /proc/self/ns/net; readlink /proc/self/ns/user; cat /proc/1/cmdline | tr '\\0' ' '; echo; exit 3")
	task := r.create(b)
	r.must(task.Start(r.ctx()))
	rec, err := task.Wait(r.ctx())
	r.must(err)
	want := ""
	for _, ns := range []string{"net", "user"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", peer.Pid(), ns))
		r.must(err)
		want += link + "\n"
	}
	if d := cmp.Diff(want+"sleep 60 \n", r.log(b)); d != "" || rec.Code != 3 {
		t.Errorf("inside, exit %d (-want +got):\n%s", rec.Code, d)
	}
}

func TestKernelHostNamespaces(t *testing.T) {
	r := newRig(t)
	_, out := r.run(func(s *triton.Spec) {
		s.NetworkMode, s.PidMode, s.IpcMode, s.UTSMode, s.CgroupnsMode = "host", "host", "host", "host", "host"
	}, "for n in net pid ipc uts cgroup user; do readlink /proc/self/ns/$n; done")
	var want []string
	for _, ns := range []string{"net", "pid", "ipc", "uts", "cgroup", "user"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		r.must(err)
		want = append(want, link)
	}
	if d := cmp.Diff(want, strings.Fields(out)); d != "" {
		t.Errorf("namespaces (-host +container):\n%s", d)
	}
}

func TestKernelTerminal(t *testing.T) {
	r := newRig(t)
	_, out := r.run(func(s *triton.Spec) {
		s.TTY, s.ConsoleSize = true, [2]uint{33, 99}
	}, "stty size; tty; echo $TERM")
	if d := cmp.Diff("33 99\r\n/dev/pts/0\r\nxterm\r\n", out); d != "" {
		t.Errorf("inside (-want +got):\n%s", d)
	}
}

func TestKernelDevicesSysctlsAndReadonlyRoot(t *testing.T) {
	r := newRig(t)
	_, out := r.run(func(s *triton.Spec) {
		s.ReadonlyRootfs = true
		s.Devices = []triton.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/nil", Permissions: "r"}}
		s.Sysctls = map[string]string{"kernel.shmmax": "4096", "net.ipv4.ip_forward": "1"}
		s.Domainname = "example.org"
		s.CapDrop = []string{"ALL"}
		s.NoNewPrivileges = true
	}, `touch /x 2>&1; head -c1 /dev/nil | wc -c
cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname
grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status`)
	for _, want := range []string{
		"touch: /x: Read-only file system\n1\n", "4096\n1\nexample.org\n", "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q in:\n%s", want, out)
		}
	}
}

// TestKernelDeviceRulesHold makes nodes, which only a container without user namespace can.
func TestKernelDeviceRulesHold(t *testing.T) {
	r := newRig(t)
	script := "mknod /k c 1 7; head -c1 /k | wc -c; mknod /m c 1 11; head -c1 /m 2>&1"
	_, out := r.run(func(s *triton.Spec) {
		s.UsernsMode = triton.ModeHost
		s.Devices = []triton.Device{{HostPath: "/dev/full", ContainerPath: "/dev/f", Permissions: "r"}}
	}, script+"; echo x > /k")
	if !strings.Contains(out, "1\n") || !strings.Contains(out, "/m: Operation not permitted") {
		t.Errorf("inside:\n%s", out)
	}
}

func TestKernelBindThatCannotBeMapped(t *testing.T) {
	r := newRig(t)
	userNS, _ := r.pair(testIDs(0))
	if err := Idmappable(userNS, "/proc", false); err == nil || !strings.Contains(err.Error(), "(proc)") {
		t.Errorf("/proc: %v, want a refusal that names the file system", err)
	}
	if err := Idmappable(userNS, t.TempDir(), true); err != nil {
		t.Errorf("a directory on disk: %v", err)
	}
}
