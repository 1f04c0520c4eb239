package coredump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// KindSnapshot is the Kind of dumps of processes that went on living.
const KindSnapshot = "snapshot"

// DefaultMaxPause is how long a snapshot may make its process stand.
const DefaultMaxPause = 10 * time.Second

// SnapshotOptions say how much is taken.
type SnapshotOptions struct {
	Mini     bool          // stacks and small segments only
	MaxPause time.Duration // what is not read by then is left out; 0: DefaultMaxPause
	Operator bool          // who asks may have what setuid programs hold
}

// Snapshot takes a core of a process that goes on: its threads stand while their registers and the memory are read. pid is
// in the daemon's namespace and must belong to sub. A kill of the daemon meanwhile lets the process go, and leaves no dump.
// errdefs.ErrFailedPrecondition: the container's label wants no dumps; ErrPermissionDenied: it is for operators.
func (s *Service) Snapshot(ctx context.Context, sub Subject, pid int, o SnapshotOptions) (*Record, error) {
	if sub.Labels[PolicyLabel] == "off" {
		return nil, fmt.Errorf("container %s has the label %s=off: %w", sub.Name, PolicyLabel, errdefs.ErrFailedPrecondition)
	}
	p, proc, err := s.living(sub, pid)
	if err != nil {
		return nil, err
	}
	defer p.pidfd.Close()
	defer proc.close()
	if p.rootOnly && !o.Operator {
		return nil, fmt.Errorf("process %d has more rights than who started it: its memory is for operators: %w", pid, errdefs.ErrPermissionDenied)
	}
	turn, cancel := context.WithTimeout(ctx, s.cfg.MaxHold)
	defer cancel()
	leave, err := s.bodies.enter(turn, sub.Key.Tenant) // before the process stands
	if err != nil {
		return nil, fmt.Errorf("other dumps are being written: %w", errdefs.ErrUnavailable)
	}
	defer leave()
	s.store.objects.mu.RLock() // until the record names the files that are kept
	defer s.store.objects.mu.RUnlock()
	if o.MaxPause <= 0 {
		o.MaxPause = DefaultMaxPause
	}
	c := &capture{Service: s, peer: p, proc: proc, begun: s.cfg.Now(), mini: o.Mini, record: newRecord(sub, p, s.cfg.Now())}
	c.record.Kind = KindSnapshot
	if c.dir, err = s.store.begin(c.record); err != nil {
		return nil, err
	}
	if err := c.snapshot(ctx, o.MaxPause); err != nil {
		return nil, errors.Join(err, s.store.drop(sub.Key.Tenant, c.record.ID))
	}
	s.log.Info("snapshot taken", "container", sub.Key, "dump", c.record.ID, "program", c.record.Comm, "body", c.record.Body,
		"cut", c.record.Cut, "pause", c.record.Pause)
	return c.record, nil
}

// living opens a process and makes sure that it is sub's.
func (s *Service) living(sub Subject, pid int) (*peer, *procDir, error) {
	gone := func(err error) error {
		return fmt.Errorf("process %d of container %s: %w: %w", pid, sub.Name, err, errdefs.ErrNotFound)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, nil, gone(err)
	}
	p := &peer{pidfd: os.NewFile(uintptr(fd), "pidfd"), pid: pid}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS | unix.PIDFD_INFO_CGROUPID}
	if err := pidfdInfo(fd, &info); err != nil {
		p.pidfd.Close()
		return nil, nil, err
	}
	p.ppid, p.cgroupID, p.uid, p.gid = int(info.Ppid), info.Cgroupid, int(info.Ruid), int(info.Rgid)
	proc, err := openProc(p)
	if err != nil {
		p.pidfd.Close()
		return nil, nil, gone(err)
	}
	if found, ok := s.cfg.Find(p.cgroupID, proc.Cgroup()); !ok || found.Key != sub.Key {
		proc.close()
		p.pidfd.Close()
		return nil, nil, gone(errors.New("not in it"))
	}
	p.rootOnly = info.Ruid != info.Euid || info.Ruid != info.Suid || !proc.ownedBy(info.Euid)
	return p, proc, nil
}

// ownedBy reports whether procfs shows the process as uid's: one that may not be dumped belongs to root there.
func (d *procDir) ownedBy(uid uint32) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.FD(), "environ", &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Uid == uid
}

// snapshot saves the process. What can be read and written while it runs is read and written then.
func (c *capture) snapshot(ctx context.Context, maxPause time.Duration) error {
	r := c.record
	m, err := openMemory(c.peer, c.proc)
	if err != nil {
		return err
	}
	defer m.close()
	smaps, err := c.proc.Read("smaps")
	if err != nil {
		return err
	}
	var body *os.File
	if !c.mini {
		if err := c.store.makeRoom(r.Container.Tenant, c.cfg.MinFree+c.store.owed()); err != nil {
			c.log.Error("retention of core dumps", "err", err)
		}
		if c.store.spare() < c.cfg.MinFree {
			return fmt.Errorf("the volume of the core dumps is full: %w", errdefs.ErrUnavailable)
		}
		if body, err = writeFile(filepath.Join(c.dir, bodyFile)); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
		defer body.Close()
	}
	var h *Head
	var mini bytes.Buffer
	var calls map[int][]triton.Call
	r.Pause, err = whileHalted(c.proc, c.peer.pid, c.cfg.Now, func(halted *halted) error {
		until := c.cfg.Now().Add(maxPause)
		if h, err = c.headOf(halted, parseMarks(string(smaps))); err != nil {
			return err
		}
		calls = c.lastCalls(r)
		if err := commitTo(&mini, h, m, h.mini()); err != nil || body == nil {
			return err
		}
		var err error
		r.StoredBytes, r.Cut, err = writeBody(body, h, m, h.body(m.absent), c.limits(until))
		return err
	})
	if err != nil {
		return err
	}
	return c.finishSnapshot(ctx, h, m, calls, mini.Bytes(), body != nil)
}

// headOf reads what a core has beside the memory of a process that stands.
func (c *capture) headOf(halted *halted, k marks) (*Head, error) {
	maps, err := c.proc.Read("maps")
	if err != nil {
		return nil, err
	}
	auxv, err := c.proc.Read("auxv")
	if err != nil {
		return nil, err
	}
	var tids []int
	for _, t := range halted.threads {
		status, err := c.proc.Read(fmt.Sprintf("task/%d/status", t.tid))
		if err != nil {
			return nil, err
		}
		tids = append(tids, lastNumber(string(status), "NSpid:"))
	}
	comm, err := c.proc.Read("comm")
	if err != nil {
		return nil, err
	}
	cmd, err := c.proc.Read("cmdline")
	if err != nil {
		return nil, err
	}
	all := mappings(string(maps))
	choose(all, k)
	return liveHead(halted, all, auxv, psinfo{
		pid: tids[0], uid: c.peer.uid, comm: strings.TrimSuffix(string(comm), "\n"), cmd: strings.ReplaceAll(string(cmd), "\x00", " "),
	}, tids)
}

// finishSnapshot writes all but the body, and describes the process, which goes on.
func (c *capture) finishSnapshot(ctx context.Context, h *Head, m *memory, calls map[int][]triton.Call, mini []byte, body bool) error {
	r := c.record
	for name, b := range map[string][]byte{miniFile: mini, headFile: h.encode()} {
		err := durable.WriteFile(filepath.Join(c.dir, name), func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
		if err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	for _, s := range h.Segments {
		r.MemoryBytes += s.Dumped
	}
	r.Body = BodyMini
	if body {
		r.Body = BodyFull
		if r.Cut != "" {
			r.Body = BodyTruncated
		}
	}
	r.describe(c.proc, h, calls)
	for i, t := range h.Threads {
		r.Threads[i].Call, r.Threads[i].Syscall = interrupted(t.Regs), "" // what it does now is not what it did
	}
	r.Modules = modules(h.Files, newScan(m))
	r.Kept = c.store.keep(ctx, r.Container.Tenant, c.proc, h.codeFiles(), debugIDs(r.Modules), c.cfg.MinFree, nil)
	r.Telemetry = c.cfg.LastMinute(r.Container)
	var err error
	if r.Log, err = c.cfg.Log(ctx, r.Container, logLines); err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	r.HeldFor = r.Pause
	if err := c.store.save(r); err != nil {
		return err
	}
	if err := c.store.shelve(r); err != nil {
		return err
	}
	c.later(r.Container.Tenant, r.ID)
	return nil
}

// interrupted names the system call that a halt took a thread out of; "" if it was in none.
func interrupted(r Regs) string {
	const origRAX, rax = 15, 10
	nr, result := int64(r.All[origRAX]), int64(r.All[rax])
	// ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK; EINTR of those that do not begin again.
	if nr < 0 || result != -512 && result != -513 && result != -514 && result != -516 && result != -int64(unix.EINTR) {
		return ""
	}
	return telemetry.SyscallName(int(nr))
}
