package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/test/images"
)

// A rule allows a device, with the permissions it names; the container makes the node itself.
func TestDeviceRulesAllowDevices(t *testing.T) {
	u := shared(t)
	const rule = "c 10:237 rm" // /dev/loop-control, whose open does nothing
	name := u.detached(t, "--userns", "host", "--device-cgroup-rule", rule, images.Busybox, "sleep", "1000")
	equal(t, "inspect", u.inspect(t, name, "{{index .HostConfig.DeviceCgroupRules 0}}"), rule)
	u.ok(t, "exec", name, "mknod", "/ctl", "c", "10", "237")
	u.ok(t, "exec", name, "sh", "-c", "exec 3</ctl")
	u.fails(t, 1, "Operation not permitted", "exec", name, "sh", "-c", "exec 3>/ctl || exit 1")
	without := u.detached(t, "--userns", "host", images.Busybox, "sleep", "1000")
	u.ok(t, "exec", without, "mknod", "/ctl", "c", "10", "237")
	u.fails(t, 1, "Operation not permitted", "exec", without, "sh", "-c", "exec 3</ctl || exit 1")
	u.fails(t, 125, "invalid device cgroup", "run", "--rm", "--device-cgroup-rule", "c 10", images.True)
}

// blockDevice is the node of a disk of this machine, and its number.
func blockDevice(t *testing.T) (path, number string) {
	t.Helper()
	disks, err := filepath.Glob("/sys/block/[!lrz]*") // no loop, ram or zram: they need not be set up
	if len(disks) == 0 {
		t.Fatalf("this machine has no disk: %v", err)
	}
	path = filepath.Join("/dev", filepath.Base(disks[0]))
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

func TestBlockLimitsReachTheCgroup(t *testing.T) {
	u := shared(t)
	disk, number := blockDevice(t)
	name := u.detached(t, "--device-read-bps", disk+":1mb", "--device-write-bps", disk+":2mb", "--device-read-iops", disk+":300",
		"--device-write-iops", disk+":400", images.Busybox, "sleep", "1000")
	for v1, want := range map[string]string{
		"blkio.throttle.read_bps_device": "1048576", "blkio.throttle.write_bps_device": "2097152",
		"blkio.throttle.read_iops_device": "300", "blkio.throttle.write_iops_device": "400",
	} {
		matches(t, v1, u.limit(t, name, "blkio", v1, "io.max"), `^`+number+`( |.*=)`+want+`\b`)
	}
	u.ok(t, "update", "--cpu-shares", "512", name) // which sets all limits again
	matches(t, "after update", u.limit(t, name, "blkio", "blkio.throttle.read_bps_device", "io.max"), "1048576")
	equal(t, "inspect", u.inspect(t, name, "{{range .HostConfig.BlkioDeviceWriteBps}}{{.Path}} {{.Rate}}{{end}}"), disk+" 2097152")
	u.fails(t, anyFailure, "no such file or directory", "run", "--rm", "--device-read-bps", "/dev/nosuch:1mb", images.True)
}

func TestBlockWeightOfADevice(t *testing.T) {
	u := shared(t)
	disk, _ := blockDevice(t)
	if sched, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(disk), "queue/scheduler")); err != nil || !strings.Contains(string(sched), "[bfq]") {
		// The kernel takes a weight only for a disk whose scheduler knows weights.
		u.fails(t, 125, "(?i)weight", "run", "--rm", "--blkio-weight-device", disk+":500", images.True)
		return
	}
	name := u.detached(t, "--blkio-weight-device", disk+":500", images.Busybox, "sleep", "1000")
	matches(t, "weight", u.limit(t, name, "blkio", "blkio.bfq.weight_device", "io.bfq.weight"), "500")
}

func TestMemorySwappiness(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.detached(t, "--memory-swappiness", "0", images.Busybox, "sleep", "1000")
	equal(t, "inspect", u.inspect(t, name, "{{.HostConfig.MemorySwappiness}}"), "0")
	file := u.limitFile(t, name, "memory", "memory.swappiness", "memory.swappiness")
	if _, err := os.Stat(file); err == nil { // cgroup2 has none, and the daemon's log says so
		equal(t, "cgroup", readCgroup(t, file), "0")
	}
	u.fails(t, 125, "(?i)valid memory swappiness range is 0-100", "run", "--rm", "--memory-swappiness", "101", images.True)
}

func TestGPUsAreRefusedInDockersWords(t *testing.T) {
	u := shared(t)
	u.fails(t, 125, `could not select device driver "" with capabilities: \[\[gpu\]\]`, "run", "--rm", "--gpus", "all", images.True)
}

func TestAnnotationsAndMACAddress(t *testing.T) {
	u := shared(t)
	const mac = "02:42:ac:11:5a:07"
	name := u.detached(t, "--annotation", "org.example=x", "--mac-address", mac, images.Busybox, "sleep", "1000")
	equal(t, "annotation", u.inspect(t, name, `{{index .HostConfig.Annotations "org.example"}}`), "x")
	equal(t, "inspect", u.inspect(t, name, "{{.NetworkSettings.Networks.bridge.MacAddress}}"), mac)
	equal(t, "interface", u.ok(t, "exec", name, "cat", "/sys/class/net/eth0/address"), mac)
	other := u.detached(t, images.Busybox, "sleep", "1000")
	matches(t, "ping", u.ok(t, "exec", other, "ping", "-c", "1", "-w", "5", u.address(t, name)), "1 packets received")
	u.ok(t, "restart", "-t", "0", name)
	equal(t, "after a restart", u.ok(t, "exec", name, "cat", "/sys/class/net/eth0/address"), mac)
}

func TestDisabledNetworkIsNone(t *testing.T) {
	u := shared(t)
	id := u.created(t, `{"Image":"`+images.Busybox+`","Cmd":["sleep","1000"],"NetworkDisabled":true}`)
	u.ok(t, "start", id)
	equal(t, "inspect", u.inspect(t, id, "{{.Config.NetworkDisabled}}"), "true")
	equal(t, "interfaces", u.ok(t, "exec", id, "ls", "/sys/class/net"), "lo")
}

// created makes a container of a request's body, as clients of API 1.41 do.
func (u *under) created(t *testing.T, body string) (name string) {
	t.Helper()
	name = u.name(t)
	if r := u.do(t, http.MethodPost, "/v1.41/containers/create?name="+name, "application/json", body); r.Status != http.StatusCreated {
		t.Fatalf("create: %d %s", r.Status, r.Body)
	}
	return name
}

// The field of older clients, which newer ones send for the network.
func TestMACAddressOfOlderClients(t *testing.T) {
	u := shared(t)
	const mac = "02:42:ac:11:5a:08"
	id := u.created(t, `{"Image":"`+images.Busybox+`","Cmd":["sleep","1000"],"MacAddress":"`+mac+`"}`)
	u.ok(t, "start", id)
	equal(t, "interface", u.ok(t, "exec", id, "cat", "/sys/class/net/eth0/address"), mac)
}
