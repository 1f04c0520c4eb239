package coredump

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// Subject is the container that a crashed process belongs to.
type Subject struct {
	Key     triton.ContainerKey
	Name    string
	Image   string
	ImageID string
	Run     int
	Pid     int // of its first process, in the daemon's namespace; 0: it has just begun, and is not noted yet
	Labels  map[string]string
}

// PolicyLabel is a container's label that says how much is kept of a crash: full (the default), mini or off.
const PolicyLabel = "triton.core"

// Config is what a Service is made of.
type Config struct {
	Dir    string // of the store
	Socket string // that kernel.core_pattern is to name
	Form   string // in which the kernel hands cores over: FormAuto, FormSocket or FormPipe
	Helper string // the program that hands a pipe to Socket
	// Keeper connects to the process that keeps the socket.
	Keeper func(context.Context) (*shim.Keeper, error)
	// Find returns the container of a cgroup, by the cgroup's id and its path below the hierarchy.
	Find func(cgroupID uint64, path string) (Subject, bool)
	// Log returns the last lines of a container's output, oldest first.
	Log func(ctx context.Context, key triton.ContainerKey, lines int) ([]string, error)
	// LastCalls returns what the threads of a container's process, by its id in the daemon's namespace, asked of the kernel
	// last; the error says why that is not recorded.
	LastCalls func(key triton.ContainerKey, pid int) ([]triton.Recording, error)
	// LastMinute returns the telemetry of a container's last minute, oldest first.
	LastMinute func(key triton.ContainerKey) []triton.Sample
	// Saved is told of each dump when it is complete, before the process is let go.
	Saved func(Record)
	// Analyze reads stacks; nil: they are not read.
	Analyze Analyzer
	// Group names the group of a crash with that signature; Count counts it there and returns the group's state, once
	// however often it is called; CountOnly counts n crashes of which nothing is known but that they are like one of a group, the
	// last of them then. None may be nil where Analyze is not.
	Group     func(*Record, *backtrace.Signature) string
	Count     func(*Record, *backtrace.Signature) (state string, err error)
	CountOnly func(r *Record, n uint64, last time.Time) error
	// Analysed is told of each dump when its stacks were read, or could not be: at least once.
	Analysed func(Record)

	Quota   uint64        // bytes on disk of one body
	MaxHold time.Duration // how long a process is held
	MinFree uint64        // bytes that stay free on the store's volume
	// Share is the part of a processor that the crashes of one container may take in the long run; 0: as much as they do.
	Share  float64
	Keep   Keep
	Logger *slog.Logger
	Now    func() time.Time
}

const (
	// bodiesAtOnce is how many bodies are written at a time: more only share the disk and the processors.
	bodiesAtOnce = 2
	// handshakeBound is how long the kernel may take for its few bytes.
	handshakeBound = 10 * time.Second
	// retryPause spaces the attempts to reach the keeper.
	retryPause = 200 * time.Millisecond
	// drainTime is how long is waited for crashes that are on their way to a socket that is about to be closed.
	drainTime = 50 * time.Millisecond
	// pruneEvery is how often is looked for dumps that have become too old; those that are too many go when one comes.
	pruneEvery = 10 * time.Minute
	// tellEvery is how often records are told of crashes that were only counted.
	tellEvery = 5 * time.Second
	// logLines is how much of a container's output a record has.
	logLines = 200
)

// Service takes core dumps while Run runs.
type Service struct {
	cfg   Config
	log   *slog.Logger
	store *Store

	pattern *Pattern // nil: never taken
	now     *taken   // what Take made and Run has not begun to serve

	bodies *turns // a place for each body that is written
	counts *tally
	rate   rate
	spent  *accounts

	backlog *backlog
	reading *turns // the place of the one analysis that runs

	unpacked *backlog // dumps whose bodies are compressed for speed
	packing  *turns
}

// New opens the store; nothing is taken before Run.
func New(cfg Config) (*Service, error) {
	keep := cfg.Keep
	keep.untilRead = cfg.Analyze != nil
	store, err := OpenStore(cfg.Dir, keep, cfg.MinFree, cfg.Now)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, log: cfg.Logger, store: store, bodies: newTurns(bodiesAtOnce), counts: newTally(),
		rate: rate{seen: map[string][]time.Time{}}, spent: newAccounts(cfg.Share),
		backlog: newBacklog(), reading: newTurns(1), unpacked: newBacklog(), packing: newTurns(1),
	}, nil
}

// Store is where the dumps are.
func (s *Service) Store() *Store { return s.store }

// Counts returns what became of the crashes since New.
func (s *Service) Counts() Counts {
	c := s.counts.read()
	c.Spent, c.Counted = s.spent.read()
	return c
}

// taken is the socket while crashes come to it.
type taken struct {
	keeper *shim.Keeper
	ln     *net.UnixListener
	served chan struct{} // closed when nobody accepts any more
	ended  bool
}

// Take points kernel.core_pattern at the keeper's socket; Run then serves it. It returns what was changed.
// ErrTaken: another daemon takes this machine's core dumps; ErrOldKernel and ErrNoHelper: they cannot be had in the form
// that Config asks for.
func (s *Service) Take(ctx context.Context) (*Pattern, error) {
	if err := s.point(ctx); err != nil {
		return nil, err
	}
	return s.pattern, nil
}

func (s *Service) point(ctx context.Context) error {
	form, err := s.form()
	if err != nil {
		return err
	}
	keeper, ln, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if s.pattern == nil {
		if s.pattern, err = s.takePattern(form); err != nil {
			return errors.Join(err, keeper.DropCores(ctx), ln.Close(), keeper.Close())
		}
	}
	s.now = &taken{keeper: keeper, ln: ln}
	s.log.Info("core dumps are taken", "form", form, "socket", s.cfg.Socket, "previous", s.pattern.Previous)
	if !Honours(s.pattern.Previous) {
		s.log.Warn("crashes of no container end without a core: the previous core_pattern names a socket, which only the kernel may use",
			"previous", s.pattern.Previous)
	}
	return nil
}

// Run takes the machine's core dumps until ctx is done, then gives kernel.core_pattern back and waits for dumps under
// way. Where another daemon takes them, or they cannot be had, it says so and only waits. Call it once, after Take or
// without.
func (s *Service) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { s.analyseAll(ctx) })
	work.Go(func() { s.repackAll(ctx) })
	age := time.NewTicker(pruneEvery)
	defer age.Stop()
	work.Go(func() { s.pruneAt(ctx, age.C) })
	counted := time.NewTicker(tellEvery)
	defer counted.Stop()
	work.Go(func() { s.tellAt(ctx, counted.C) })
	var before *taken                      // whose keeper is gone
	for ctx.Err() == nil || s.now != nil { // what Take made is given back in any case
		if s.now == nil {
			if err := s.point(ctx); err != nil {
				s.log.Error("core dumps are not taken", "err", err)
				if errors.Is(err, ErrTaken) || errors.Is(err, ErrOldKernel) || errors.Is(err, ErrNoHelper) {
					<-ctx.Done()
					break
				}
				pause(ctx, retryPause)
				continue
			}
		}
		t := s.now
		s.now = nil
		t.served = make(chan struct{})
		go func() { defer close(t.served); s.accept(ctx, t.ln, s.pattern, &work) }()
		before.end()
		if err := t.keeper.Gone(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("watch the keeper", "err", err)
		}
		if before = t; ctx.Err() != nil { // give back before the socket goes: no crash may meet a dead one
			err := s.pattern.Restore()
			t.end()
			if err = errors.Join(err, t.keeper.DropCores(context.WithoutCancel(ctx))); err != nil {
				s.log.Error("core dumps not given back", "err", err)
			}
		}
		t.keeper.Close()
	}
	if before != nil && !before.ended { // without a keeper at the end
		if err := s.pattern.Restore(); err != nil {
			s.log.Error("core dumps not given back", "err", err)
		}
		before.end()
	}
	return ctx.Err()
}

// end takes the crashes that have come to a socket which no keeper has any more, or which no pattern names, and closes it.
func (t *taken) end() {
	if t == nil || t.ended {
		return
	}
	t.ended = true
	// A deadline that is over would end the accepting before the queue is empty.
	if err := t.ln.SetDeadline(time.Now().Add(drainTime)); err != nil {
		t.ln.Close() // which ends it, too
	}
	<-t.served
	t.ln.Close()
}

// pruneAt removes what has become too old at each tick, until ctx is done.
func (s *Service) pruneAt(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			s.spent.prune(s.cfg.Now())
			if err := s.store.Prune(); err != nil {
				s.log.Error("retention of core dumps", "err", err)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listen gets a copy of the keeper's socket.
func (s *Service) listen(ctx context.Context) (*shim.Keeper, *net.UnixListener, error) {
	k, err := s.cfg.Keeper(ctx)
	if err != nil {
		return nil, nil, err
	}
	f, err := k.Cores(ctx, s.cfg.Socket)
	if err != nil {
		return nil, nil, errors.Join(err, k.Close())
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("core socket: %w", err), k.Close())
	}
	ln, ok := l.(*net.UnixListener)
	if !ok {
		return nil, nil, errors.Join(errors.New("core socket: not a Unix socket"), l.Close(), k.Close())
	}
	ln.SetUnlinkOnClose(false) // the keeper's
	return k, ln, nil
}

// accept takes crashes until the socket's deadline is over.
func (s *Service) accept(ctx context.Context, ln *net.UnixListener, pattern *Pattern, work *sync.WaitGroup) {
	for {
		conn, err := ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Error("accept a core", "err", err)
			pause(ctx, retryPause)
			continue
		}
		begun := s.cfg.Now()
		work.Go(func() {
			defer conn.Close()
			if err := s.take(ctx, conn, begun, pattern); err != nil {
				s.counts.lost.Add(1)
				s.log.Error("core dump not taken", "err", err)
			}
		})
	}
}

// take is one crash.
func (s *Service) take(ctx context.Context, conn *net.UnixConn, begun time.Time, pattern *Pattern) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeBound)); err != nil {
		return err
	}
	src, p, err := open(conn)
	if errors.Is(err, errProbe) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.close()
	defer p.pidfd.Close()
	proc, err := openProc(p)
	if err != nil {
		return err
	}
	defer proc.close()
	subject, ok := s.cfg.Find(p.cgroupID, proc.Cgroup())
	if !ok {
		s.counts.foreign.Add(1)
		return forward(ctx, src, p, proc, pattern.Previous)
	}
	policy := subject.Labels[PolicyLabel]
	if policy == "off" {
		s.counts.refused.Add(1)
		return src.reject()
	}
	c := &capture{Service: s, peer: p, proc: proc, begun: begun, mini: policy == "mini", record: newRecord(subject, p, begun)}
	return c.admitted(ctx, src, subject.Pid == 0 || p.pid == subject.Pid)
}

func newRecord(sub Subject, p *peer, at time.Time) *Record {
	b := make([]byte, idLength/2)
	rand.Read(b) // never fails
	return &Record{
		ID: hex.EncodeToString(b), Container: sub.Key, Name: sub.Name, Image: sub.Image, ImageID: sub.ImageID, Run: sub.Run,
		At: at.UTC(), Pid: p.pid, UID: p.uid, OperatorOnly: p.rootOnly, Body: BodyNone,
	}
}

// receive takes head and notes and cuts the stream: the process stays held.
func receive(src stream) (*Head, error) {
	r, err := src.begin()
	if err != nil {
		return nil, err
	}
	h, err := ReadHead(r)
	return h, errors.Join(err, src.cut())
}

// commitTo writes the bytes of a core with the given runs.
func commitTo(w io.Writer, h *Head, m *memory, runs []Run) error {
	const step = 128 << 10 // many crash at once
	l := h.layOut(runs)
	at, err := w.Write(l.head)
	if err != nil {
		return err
	}
	if len(l.runs) > 0 {
		if _, err := w.Write(make([]byte, l.runs[0].off-int64(at))); err != nil {
			return err
		}
	}
	buf := make([]byte, step)
	for _, r := range l.runs {
		for at := r.Start; at < r.End; at += step {
			b := buf[:min(step, r.End-at)]
			if err := m.read(b, at); err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFile makes a file that only root reads.
func writeFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
