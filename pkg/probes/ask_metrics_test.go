package probes

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/question"
)

// Requests and their bytes are those that the container is charged for all the time, by the device that the file is on.
func TestKernelQuestionsAboutBlockIO(t *testing.T) {
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
	q := understand(t, "block", "op=write && bytes>=4k", "device,op,latency")
	none := understand(t, "block", "op=read || bytes<4k || latency>1h", "device")
	a, b := ask(t, p, q), ask(t, p, none)
	proc.release(t)
	if st := proc.wait(t); st != 0 {
		t.Fatalf("actor ended with status %#x", st)
	}
	rows, rest, lost := a.end(t, q)
	s, disks := snapshot(t, p, key), disksOf(t, p, key)
	if len(disks) != 1 || len(rows) != 1 || rest.Count != 0 || lost != 0 {
		t.Fatalf("%+v, rest %+v, %d lost; disks are %+v", rows, rest, lost, disks)
	}
	c := rows[disks[0].Name+" write"]
	if c.Count != s.BlockWrites || c.Bytes != s.BlockWriteBytes || c.Count < 128 {
		t.Errorf("%+v, want %d requests of %d bytes", c, s.BlockWrites, s.BlockWriteBytes)
	}
	// Both programs read the clock for themselves, when the same request is done.
	if took := disks[0].Durations.SumNs; c.Timed != c.Count || c.Ns < took*9/10 || c.Ns > took*11/10 {
		t.Errorf("%d took %d ns, by the other count %d ns", c.Timed, c.Ns, took)
	}
	if rows, _, _ := b.end(t, none); len(rows) != 0 {
		t.Errorf("what does not pass is %+v", rows)
	}
}

// The sum of waits is the kernel's own, of each task: two that want the same CPU wait for each other.
func TestKernelQuestionsAboutTheRunQueue(t *testing.T) {
	p := open(t, Config{Level: Off})
	_, cg := watch(t, p)
	q := understand(t, "runqueue", "comm=actor", "comm,latency")
	var procs []*process
	for range 2 {
		proc := start(t, cg, actorBinary(t), "gate", actorBinary(t), "churn", "300000")
		proc.paused(t)
		one := unix.CPUSet{}
		one.Set(0)
		if err := unix.SchedSetaffinity(proc.cmd.Process.Pid, &one); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, proc)
	}
	var before, after time.Duration
	for _, proc := range procs {
		_, waited := proc.schedstat(t)
		before += waited
	}
	a := ask(t, p, q)
	for _, proc := range procs {
		proc.release(t)
	}
	for _, proc := range procs {
		eventually(t, "actor ended", func() bool { return procState(proc.cmd.Process.Pid) == "Z" })
		_, waited := proc.schedstat(t)
		after += waited
	}
	rows, _, lost := a.end(t, q)
	c := rows["actor"]
	if want := uint64(after - before); c.Ns != want || want == 0 || c.Timed != c.Count || c.Latency.Count() != c.Count || lost != 0 {
		t.Errorf("%+v waited, %d lost; the kernel says %d ns", c, lost, want)
	}
}

// What a container opens, is refused, accepts and closes; to whom, and how long it took.
func TestKernelQuestionsAboutTCP(t *testing.T) {
	p := open(t, Config{Level: Off})
	_, cg := watch(t, p)
	q := understand(t, "tcp", "remote=127.0.0.0/8", "event,remote,port,errno")
	slow := understand(t, "tcp", "latency>=1s && remote!=10.0.0.0/8", "event,latency")
	a, b := ask(t, p, q), ask(t, p, slow)
	address := echoing(t)
	_, echo, _ := net.SplitHostPort(address)
	var connectNs uint64
	const connections = 3
	for range connections {
		client := start(t, cg, "/proc/self/exe", dialerMode, address)
		connectNs += client.number(t)
		io.WriteString(client.in, "\n")
		client.number(t)
		client.in.Close()
		client.wait(t)
	}
	closed := unusedPort(t)
	start(t, cg, "/proc/self/exe", dialerMode, loopback(closed)).wait(t)
	start(t, cgroup{}, "/proc/self/exe", dialerMode, address).in.Close() // nobody's

	port := unusedPort(t)
	server := start(t, cg, "/bin/busybox", "nc", "-l", "-p", strconv.Itoa(port))
	listening := regexp.MustCompile(fmt.Sprintf(`:%04X 0+:0000 0A`, port))
	eventually(t, "the server listens", func() bool {
		return listening.MatchString(readFile(t, "/proc/net/tcp") + readFile(t, "/proc/net/tcp6"))
	})
	start(t, cgroup{}, "/proc/self/exe", dialerMode, loopback(port)).in.Close()
	server.in.Close()
	server.wait(t)

	full, crowded := fullBacklog(t)
	client := start(t, cg, "/proc/self/exe", dialerMode, loopback(crowded))
	eventually(t, "the client waits for an answer", func() bool { return connecting(t, crowded) })
	accepted, _, err := unix.Accept(full)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(accepted)
	tookNs := client.number(t)

	rows, rest, lost := a.end(t, q)
	want := map[string]uint64{
		"connect 127.0.0.1 " + echo + " 0": connections, "close 127.0.0.1 " + echo + " 0": connections,
		fmt.Sprintf("fail 127.0.0.1 %d ECONNREFUSED", closed): 1,
		fmt.Sprintf("accept 127.0.0.1 %d 0", port):            1, fmt.Sprintf("close 127.0.0.1 %d 0", port): 1,
		fmt.Sprintf("connect 127.0.0.1 %d 0", crowded): 1, fmt.Sprintf("retransmit 127.0.0.1 %d 0", crowded): 1,
	}
	if d := cmp.Diff(want, countsOf(rows)); d != "" || rest.Count != 0 || lost != 0 {
		t.Errorf("rest %d, %d lost, (-want +got):\n%s", rest.Count, lost, d)
	}
	if c := rows["connect 127.0.0.1 "+echo+" 0"]; c.Timed != connections || c.Ns == 0 || c.Ns > connectNs {
		t.Errorf("%+v, the clients took %d ns", c, connectNs)
	}
	if c := rows["close 127.0.0.1 "+echo+" 0"]; c.Bytes != 2*connections || c.Timed != 0 {
		t.Errorf("%+v, want a byte in each direction of each", c)
	}
	rows, _, _ = b.end(t, slow)
	if c := rows["connect"]; len(rows) != 1 || c.Count != 1 || c.Ns < uint64(time.Second) || c.Ns > tookNs || c.Latency.Quantile(0.5) < time.Second {
		t.Errorf("slow are %+v, the client took %d ns", rows, tookNs)
	}
}

// The verifier takes the largest questions too, also on the oldest kernel: as many comparisons and alternatives as there may be,
// of the longest texts, with histograms.
func TestKernelTakesEveryProgramOfTheLargestQuestions(t *testing.T) {
	const most = 50_000 // of the million that it would go through
	for metric, object := range askObjects {
		q := &question.Question{Metric: metric, By: []question.Dimension{{Field: question.Container}, {Field: question.Latency}}}
		leaf := question.Leaf{Field: question.Latency, High: 5}
		switch metric {
		case question.Syscall:
			q.By = append(q.By, question.Dimension{Field: question.Path})
			leaf = question.Leaf{Field: question.Path, Text: strings.Repeat("x", question.PathMax)}
		case question.TCP:
			q.By = append(q.By, question.Dimension{Field: question.Remote})
			leaf = question.Leaf{Field: question.Remote, Net: netip.MustParsePrefix("2001:db8::/99")}
		}
		for i := range question.LeavesMax {
			q.Leaves = append(q.Leaves, leaf)
			q.Clauses = append(q.Clauses, question.Clause{Must: 1 << i, Not: 1 << (question.LeavesMax - 1 - i)})
		}
		for _, p := range object.programs {
			spec, err := object.load()
			if err != nil {
				t.Fatal(err)
			}
			spec.Maps[bpf.AskSyscallsMapAsked].MaxEntries = 64
			sizeAnswers(spec, q)
			if err := setQuestion(spec, q); err != nil {
				t.Fatal(err)
			}
			n, err := try(spec, p.names[0])
			if err != nil || n > most {
				t.Errorf("%s %s: %d instructions verified, %v\n%s", metric, p.names[0], n, err, verifierSays(err))
			}
			t.Logf("%s %s: %d instructions verified", metric, p.names[0], n)
		}
	}
}
