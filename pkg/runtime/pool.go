package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/shim"
)

// process is one shim, or the keeper, seen from here.
type process struct {
	id     string // names its files
	socket string
	log    string // its standard error
	pid    int
	client Shim // nil for the keeper
	ended  bool // reaped; guarded by Runtime.mu
}

// fill starts shims until the pool is full, one after the other: they are made for later.
func (r *Runtime) fill(ctx context.Context) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		full := r.closed || len(r.idle) >= r.cfg.PoolSize
		r.mu.Unlock()
		if full {
			break
		}
		p, err := r.startShim(ctx)
		if err != nil {
			return err
		}
		r.account(p)
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return r.dismiss(ctx, p)
		}
		r.idle = append(r.idle, p)
		r.mu.Unlock()
	}
	return nil
}

// claim takes an idle shim out of the pool, or starts one when there is none. The caller owns it, and calls wake when it has
// made its container: the start of the shim that comes after must not slow that down.
func (r *Runtime) claim(ctx context.Context) (*process, error) {
	for {
		r.mu.Lock()
		if len(r.idle) == 0 {
			r.mu.Unlock()
			r.wake()
			return r.startShim(ctx)
		}
		p := r.idle[0]
		r.idle = r.idle[1:]
		r.mu.Unlock()
		if _, err := p.client.Hello(ctx); err == nil {
			return p, nil
		} else if ctx.Err() != nil {
			return nil, errors.Join(err, r.dismiss(context.WithoutCancel(ctx), p))
		}
		r.log.Warn("idle shim was gone", "shim", p.id, "pid", p.pid, "said", tail(p.log))
		r.discard(p)
	}
}

// wake makes Run look at the pool.
func (r *Runtime) wake() {
	select {
	case r.refill <- struct{}{}:
	default: // it is going to look anyway
	}
}

// startShim starts a shim and greets it.
func (r *Runtime) startShim(ctx context.Context) (*process, error) {
	var b [8]byte
	rand.Read(b[:]) // never fails
	id := hex.EncodeToString(b[:])
	p := &process{id: id, socket: r.path(shimsDir, id+".sock"), log: r.path(shimsDir, id+".log")}
	r.mu.Lock()
	r.own[id] = p // from now on nobody takes its files for a leftover
	r.mu.Unlock()
	err := r.spawn(p, "serve")
	if err == nil {
		err = r.await(ctx, p, func(ctx context.Context) error {
			client, _, err := r.dial(ctx, p.socket)
			p.client = client
			return err
		})
	}
	if err != nil {
		r.discard(p)
		return nil, fmt.Errorf("start shim: %w", err)
	}
	return p, nil
}

// spawn starts the shim program in a session of its own, with nothing of ours but the file its errors go to.
func (r *Runtime) spawn(p *process, mode string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	errs, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer errs.Close()
	attr := &syscall.SysProcAttr{Setsid: true}
	if r.cg.Mode() != cgroup.V1 { // a purge ends them by this group
		group, err := os.Open(r.cg.Dir("", r.shimGroup()))
		if err != nil {
			return err
		}
		defer group.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(group.Fd())
	}
	child, err := os.StartProcess(r.cfg.ShimPath, []string{"triton-shim", mode, "--socket", p.socket}, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Files: []*os.File{null, null, errs}, Sys: attr,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	p.pid = child.Pid
	r.children[p.pid] = p
	r.mu.Unlock()
	// reap waits by pid: os.Process.Wait would hold a thread for as long as the shim lives.
	return child.Release()
}

// Timing of a start: the socket answers after 4 ms on an idle machine.
const (
	startBound = 10 * time.Second
	startPause = time.Millisecond
)

// await repeats dial until the new process answers, it died, or ctx or startBound ended.
func (r *Runtime) await(ctx context.Context, p *process, dial func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	for {
		err := dial(ctx)
		if err == nil || !isGone(err) {
			return err
		}
		if !r.running(p) {
			return fmt.Errorf("it ended at once: %s", tail(p.log))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(startPause):
		}
	}
}

// running reports whether our child runs; a zombie does not. Nothing is known of a shim of an earlier daemon: true.
func (r *Runtime) running(p *process) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runningLocked(p)
}

// runningLocked is running for a caller that holds mu. While it does, the pid cannot be reaped and so not be reused.
func (r *Runtime) runningLocked(p *process) bool {
	if p.ended {
		return false
	}
	if r.children[p.pid] != p {
		return true
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == 0
}

// account moves a shim to the shims' groups of memory and CPU on v1; on cgroup2 it was born there. What it does for a container,
// which writes lines of log without end, say, is then done within the instance's share of the CPUs, beside the other containers
// and not against all of them. It is no reason to fail.
func (r *Runtime) account(p *process) {
	if r.cg.Mode() == cgroup.V2 {
		return
	}
	for _, controller := range []string{"memory", "cpu"} {
		if !r.cg.Has(controller) {
			continue
		}
		if err := r.cg.Join(r.shimGroup(), p.pid, controller); err != nil {
			r.log.Warn("shim is accounted to the daemon", "shim", p.id, "controller", controller, "err", err)
		}
	}
}

// reap collects our children that ended, and forgets idle shims among them. It reports how many are left.
func (r *Runtime) reap() (left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid, p := range r.children {
		got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		if got != pid && err != syscall.ECHILD {
			continue
		}
		p.ended = true
		delete(r.children, pid)
		if p == r.keeper {
			r.keeper = nil
		}
	}
	r.idle = slices.DeleteFunc(r.idle, func(p *process) bool {
		if p.ended {
			r.log.Warn("idle shim ended", "shim", p.id, "pid", p.pid, "said", tail(p.log))
			r.forgetLocked(p)
		}
		return p.ended
	})
	return len(r.children)
}

// dismiss ends an idle shim.
func (r *Runtime) dismiss(ctx context.Context, p *process) error {
	err := p.client.Shutdown(ctx)
	r.discard(p)
	if isGone(err) {
		return nil
	}
	return err
}

// discard forgets a shim that holds no container, and kills it should it still run: it has nothing to lose. A shim of an
// earlier daemon ends with its connection.
func (r *Runtime) discard(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.children[p.pid] == p && r.runningLocked(p) {
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			r.log.Error("kill an unused shim", "pid", p.pid, "err", err)
		}
	}
	r.forgetLocked(p)
}

// forget drops a shim that is gone, or ends by itself because its container was deleted.
func (r *Runtime) forget(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(p)
}

func (r *Runtime) forgetLocked(p *process) {
	if p.client != nil {
		p.client.Close()
	}
	delete(r.own, p.id)
	removeFiles(p)
}

func removeFiles(p *process) {
	for _, f := range []string{p.socket, p.log} {
		os.Remove(f) // most are gone: a shim removes its own socket
	}
}

// tailBytes is how much of a shim's last words is passed on to the daemon's log.
const tailBytes = 2 << 10

// tail returns the end of a shim's log on one line.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(0, st.Size()-tailBytes), tailBytes))
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

// maxShimLog bounds a shim's log in bytes; it holds complaints only.
const maxShimLog = 256 << 10

// boundLogs empties logs that grew too long. The files are opened for appending, so nothing is torn.
func (r *Runtime) boundLogs() {
	r.mu.Lock()
	var paths []string
	for _, p := range r.own {
		paths = append(paths, p.log)
	}
	r.mu.Unlock()
	for _, path := range append(paths, r.path(keeperLog)) {
		st, err := os.Stat(path)
		if err != nil || st.Size() <= maxShimLog {
			continue
		}
		r.log.Warn("shim complains a lot", "log", path, "bytes", st.Size(), "said", tail(path))
		if err := os.Truncate(path, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.log.Error("empty a shim's log", "err", err)
		}
	}
}

// isGone reports whether nobody is behind a shim's or the keeper's socket any more.
func isGone(err error) bool {
	return errors.Is(err, shim.ErrShimGone) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}
