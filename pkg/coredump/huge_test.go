package coredump

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serving takes the machine's crashes until the test's end, all as of one container that wants whole dumps.
func (p *tried) serving(t *testing.T) {
	t.Helper()
	p.policy.Store("full")
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := p.Take(ctx); err != nil {
		cancel()
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// huge builds the program of testdata.
func huge(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "huge")
	if out, err := exec.CommandContext(t.Context(), "cc", "-O2", "-pthread", "-o", exe, "testdata/huge.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

// words checks the memory of a core of testdata/huge.c, which is all of memory from 32 MiB on, and returns how many of its
// windows there are and how many pages are zeroes.
func words(t *testing.T, s *Store, r *Record) (windows, zeroes int) {
	t.Helper()
	core, err := s.OpenCore(r)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	h, mem, err := memoryOf(core)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Threads) != 3 {
		t.Errorf("%d threads, want 3", len(h.Threads))
	}
	for _, th := range h.Threads {
		if b := make([]byte, 256); !mem.Load(b, th.Regs.SP) {
			t.Errorf("the stack of thread %d is not there", th.TID)
		}
	}
	raw, err := os.ReadFile(filepath.Join(s.dir, string(r.Container.Tenant), r.ID, headFile))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := ReadHead(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, pageSize)
	for _, c := range core.chunks {
		if i := whole.segment(c.Start); whole.Segments[i].Dumped < 32<<20 {
			continue
		}
		windows++
		for at := c.Start; at < c.End && c.End-c.Start <= window; at += pageSize {
			if !mem.Load(page, at) {
				t.Fatalf("the page at %#x is not there", at)
			}
			switch got := binary.LittleEndian.Uint64(page); got {
			case at * 0x9e3779b97f4a7c15:
			case 0:
				zeroes++
			default:
				t.Fatalf("%#x at %#x", got, at)
			}
		}
	}
	return windows, zeroes
}

// TestKernelKilledInMidBody: what ends a process while its memory is read truncates the core: what is in it is right, and
// no zeroes stand for what could not be read any more.
func TestKernelKilledInMidBody(t *testing.T) {
	for _, form := range []string{FormSocket, FormPipe} {
		t.Run(form, func(t *testing.T) {
			p := newTried(t, form)
			const mib = 256
			cmd := exec.Command(huge(t), "words", "256")
			var pid atomic.Int64
			killed := false
			p.window = func() {
				if killed || pid.Load() == 0 {
					return
				}
				bodies, err := filepath.Glob(filepath.Join(p.cfg.Dir, "*", "*", bodyFile))
				if err != nil || len(bodies) == 0 {
					return
				}
				if st, err := os.Stat(bodies[0]); err == nil && st.Size() > 8<<20 {
					killed = true
					if err := syscall.Kill(int(pid.Load()), syscall.SIGKILL); err != nil {
						t.Error(err)
					}
				}
			}
			p.serving(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pid.Store(int64(cmd.Process.Pid))
			r := p.wait(t)
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) {
				t.Errorf("the program ended with %v", err)
			}
			if r.Body != BodyTruncated || r.Cut != CutGone || r.Pid != cmd.Process.Pid || r.Comm != "huge" || len(r.Threads) != 3 {
				t.Errorf("body %s, cut %q, pid %d (%d), %s, %d threads", r.Body, r.Cut, r.Pid, cmd.Process.Pid, r.Comm, len(r.Threads))
			}
			windows, zeroes := words(t, p.Store(), &r)
			if windows < 8 || windows >= mib || zeroes > 0 {
				t.Errorf("%d windows of %d, %d pages of zeroes", windows, mib, zeroes)
			}
		})
	}
}

// TestKernelTerabytesReserved: what a process may map without end costs the daemon neither memory nor disk.
func TestKernelTerabytesReserved(t *testing.T) {
	p := newTried(t, FormSocket)
	p.serving(t)
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := exec.Command(huge(t), "reserve", "262144").Run(); err == nil {
		t.Fatal("the program does not crash")
	}
	r := p.wait(t)
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
	if r.Body != BodyFull || r.MemoryBytes < 256<<30 || r.StoredBytes > 16<<20 {
		t.Errorf("body %s, cut %q, %d bytes in %d", r.Body, r.Cut, r.MemoryBytes, r.StoredBytes)
	}
	if _, zeroes := words(t, p.Store(), &r); zeroes != int(window/pageSize)-1 {
		t.Errorf("%d zero pages beside the one that was touched", zeroes)
	}
	if r.HeldFor > 30*time.Second {
		t.Errorf("held for %s", r.HeldFor)
	}
}
