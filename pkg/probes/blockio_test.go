package probes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// blkioCgroup makes a directory in v1's blkio hierarchy; on a pure v2 host there is none, and v2 is what is charged.
func blkioCgroup(t *testing.T, pid int) map[string]uint64 {
	t.Helper()
	const root = "/sys/fs/cgroup/blkio"
	if _, err := os.Stat(root); err != nil {
		return nil
	}
	dir := filepath.Join(root, "t"+randomHex())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "blkio cgroup removed", func() bool { return os.Remove(dir) == nil })
	})
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return map[string]uint64{"blkio": st.Ino}
}

// leastWritten is what a writer of 1 MiB is charged at least: the block layer may merge a write into another's request, and
// charges that to the other.
const leastWritten = 1<<20 - 1<<16

// Direct writes are charged to the container by the hierarchy that the block layer uses, and to nobody else: a
// container whose cgroup2 id equals that blkio id gets nothing.
func TestKernelBlockWritesAreChargedByTheirOwnHierarchy(t *testing.T) {
	dir, err := os.MkdirTemp(".", "blockio") // the temporary directory may be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := open(t, Config{})
	cg, key, double := newCgroup(t), newKey(), newKey()
	proc := start(t, cg, actorBinary(t), "direct", filepath.Join(dir, "file"), "1024")
	proc.paused(t)
	ids := CgroupIDs{V2: cg.id, V1: blkioCgroup(t, proc.cmd.Process.Pid)}
	if _, err := p.Watch(key, ids); err != nil {
		t.Fatal(err)
	}
	if id := ids.V1["blkio"]; id != 0 && id != cg.id {
		if _, err := p.Watch(double, CgroupIDs{V2: id, V1: map[string]uint64{"blkio": 1 << 40}}); err != nil {
			t.Fatal(err)
		}
	}
	proc.release(t)
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with status %#x", st)
	}
	s := snapshot(t, p, key)
	if s.BlockWriteBytes < leastWritten || s.BlockWrites < leastWritten/4096 {
		t.Errorf("wrote %d bytes in %d requests, want at least %d of 4 KiB each", s.BlockWriteBytes, s.BlockWrites, leastWritten)
	}
	if len(ids.V1) > 0 && ids.V1["blkio"] != cg.id {
		if d := snapshot(t, p, double); d.BlockWrites != 0 || d.SyscallCount() != 0 {
			t.Errorf("the container with the same id elsewhere was charged %d writes", d.BlockWrites)
		}
	}
}

// A process that writes directly, one request at a time, sleeps while the device works. The witness is the scheduler: what is
// left of the process's time without its runs and its waits for a CPU are its sleeps. A request begins while the process
// still runs (handing it to the device can take as long as the device does), and ends in an interrupt before the waking: it
// lasts about as long as the sleep, for which a quarter is allowed, or longer, up to the whole of the process's time.
func TestKernelDisksTellHowLongRequestsTook(t *testing.T) {
	dir, err := os.MkdirTemp(".", "blockio") // the temporary directory may be a tmpfs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := open(t, Config{})
	cg, key := newCgroup(t), newKey()
	file := filepath.Join(dir, "file")
	if err := writeSynced(file, make([]byte, 1<<20)); err != nil { // so that no write waits for the file system's journal
		t.Fatal(err)
	}
	proc := start(t, cg, actorBinary(t), "direct", file, "1024")
	proc.paused(t)
	if _, err := p.Watch(key, CgroupIDs{V2: cg.id, V1: blkioCgroup(t, proc.cmd.Process.Pid)}); err != nil {
		t.Fatal(err)
	}
	ranBefore, waitedBefore := proc.schedstat(t)
	began := time.Now()
	proc.release(t)
	if err := unix.Waitid(unix.P_PID, proc.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	all := time.Since(began)
	ran, waited := proc.schedstat(t)
	asleep := all - (ran - ranBefore) - (waited - waitedBefore)
	disks := disksOf(t, p, key)
	var writes []triton.Disk
	for _, d := range disks {
		if d.Write {
			writes = append(writes, d)
		}
	}
	if len(writes) != 1 || writes[0].Untimed != 0 || writes[0].Bytes < leastWritten {
		t.Fatalf("written: %+v", writes)
	}
	took, s := time.Duration(writes[0].Durations.SumNs), snapshot(t, p, key)
	if writes[0].Requests() != s.BlockWrites || writes[0].Bytes != s.BlockWriteBytes {
		t.Errorf("%d requests of %d bytes by device, %d of %d altogether", writes[0].Requests(), writes[0].Bytes, s.BlockWrites, s.BlockWriteBytes)
	}
	if took < asleep*3/4 || took > all {
		t.Errorf("requests took %v, the process slept %v of %v", took, asleep, all)
	}
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with status %#x", st)
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	if err := p.reap(); err != nil {
		t.Fatal(err)
	}
	if n := disksKept(t, p); n != 0 {
		t.Errorf("%d disks of ended containers are kept", n)
	}
}

// Where disks come and go with the containers that use them, what is remembered is what those that are there used: with its
// counts, be the device on the machine or not.
func TestKernelDevicesAreForgottenWithTheirContainers(t *testing.T) {
	p := open(t, Config{})
	stays, _ := watch(t, p)
	use := func(key triton.ContainerKey, minor uint32, bytes uint64) {
		t.Helper()
		p.mu.RLock()
		owner := p.table.byKey[key].owner()
		p.mu.RUnlock()
		disk := bpf.MeasureDiskKey{Owner: owner, Major: noMajor, Minor: minor, Write: 1}
		if err := p.kernel.maps[bpf.MeasureMapDisks].Put(disk, bpf.MeasureDiskTotals{Bytes: bytes}); err != nil {
			t.Fatal(err)
		}
	}
	bytesOf := func(minor int) uint64 {
		t.Helper()
		name := fmt.Sprintf("%d:%d", noMajor, minor)
		for _, d := range disksOf(t, p, stays) {
			if d.Name == name {
				return d.Bytes
			}
		}
		return 0
	}
	use(stays, 0, 100)
	for round := range 20 {
		short, _ := watch(t, p)
		for i := range uint32(8) {
			use(short, 1+8*uint32(round)+i, 7)
		}
		use(stays, 1+8*uint32(round), uint64(200+round)) // shared, and kept for this one
		if n := len(disksOf(t, p, short)); n != 8 {
			t.Fatalf("%d disks, want 8", n)
		}
		if _, err := p.Unwatch(short); err != nil {
			t.Fatal(err)
		}
		if err := p.reap(); err != nil {
			t.Fatal(err)
		}
		devices := 0
		p.kernel.seen.Range(func(any, any) bool { devices++; return true })
		if want := 2 + round; devices != want || disksKept(t, p) != want {
			t.Fatalf("round %d: %d devices are remembered, %d disks are kept, want %d of each", round, devices, disksKept(t, p), want)
		}
		for minor, want := range map[int]uint64{0: 100, 1: 200, 1 + 8*round: uint64(200 + round)} {
			if got := bytesOf(minor); got != want {
				t.Errorf("round %d: %d bytes of device %d, want %d", round, got, minor, want)
			}
		}
	}
}

// noMajor is a major number that no device has: the kernel's are below 512 (CHRDEV_MAJOR_MAX, and BLKDEV_MAJOR_MAX of linux/fs.h).
const noMajor = 4000

func writeSynced(path string, content []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func disksOf(t *testing.T, p *Probes, key triton.ContainerKey) []triton.Disk {
	t.Helper()
	all, err := p.Disks()
	if err != nil {
		t.Fatal(err)
	}
	one, err := p.DisksOf(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all[key] {
		if !slices.ContainsFunc(one, func(o triton.Disk) bool { return o.Name == d.Name && o.Write == d.Write && o.Bytes >= d.Bytes }) {
			t.Errorf("%+v is not among those of the container alone: %+v", d, one)
		}
	}
	return all[key]
}

func disksKept(t *testing.T, p *Probes) (n int) {
	t.Helper()
	if err := p.kernel.eachDisk(func(*bpf.MeasureDiskKey, *bpf.MeasureDiskTotals) { n++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// BenchmarkKernelDisks reads the disks of one container among a thousand that use four each, as a request of the API does.
func BenchmarkKernelDisks(b *testing.B) {
	p := open(b, Config{Level: Off, MaxContainers: 1024})
	for i := range uint64(4000) {
		key := bpf.MeasureDiskKey{Owner: 1<<32 | i/4, Major: 8, Minor: uint32(i % 4)}
		if err := p.kernel.maps[bpf.MeasureMapDisks].Put(key, bpf.MeasureDiskTotals{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	key, _ := watch(b, p)
	b.Run("all", func(b *testing.B) {
		for range b.N {
			if _, err := p.Disks(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		for range b.N {
			if _, err := p.DisksOf(key); err != nil {
				b.Fatal(err)
			}
		}
	})
}
