package coredump

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

const (
	backtraceFile = "backtrace.json"
	maxBacktrace  = 64 << 20
	// maxWaiting is how many dumps of a tenant wait for their analysis; more are analysed when they are asked for, or at the
	// next start. A store keeps no more of one tenant.
	maxWaiting = 256
)

// Analysis is what a dump's stacks say in short; Store.Backtrace has them.
type Analysis struct {
	At   time.Time     `json:"at"`
	Took time.Duration `json:"tookNs"`
	// Group is the group of like crashes: the fuzzy signature. Empty: there is none.
	Group string `json:"group,omitempty"`
	Exact string `json:"exact,omitempty"` // the exact signature
	// State is what the group was when this crash had been counted: new, known, resolved or regressed. Empty with a group:
	// it was not counted yet.
	State string `json:"state,omitempty"`
	Top   string `json:"top,omitempty"` // the function that the group begins with, with its place in the source
	// Error is why there are no stacks.
	Error string `json:"error,omitempty"`
}

// Analyzer reads the stacks of a process; jail.Run is one. took is the processor time that it took elsewhere, also with an error.
type Analyzer func(ctx context.Context, p *backtrace.Process, mem backtrace.Memory, files []*os.File) (
	b *backtrace.Result, took time.Duration, err error)

// waiting names a dump.
type waiting struct {
	tenant triton.Tenant
	id     string
}

// enqueue has a complete dump analysed.
func (s *Service) enqueue(tenant triton.Tenant, id string) {
	if s.cfg.Analyze == nil {
		s.later(tenant, id)
		return
	}
	if !s.backlog.add(waiting{tenant, id}) {
		s.log.Warn("dump is not analysed: too many wait", "tenant", tenant, "dump", id)
	}
}

// analyseAll analyses dumps until ctx is done, also those that a former daemon left.
func (s *Service) analyseAll(ctx context.Context) {
	if s.cfg.Analyze == nil {
		return
	}
	for _, w := range s.store.left(func(k kept) bool { return k.analyse }) {
		s.enqueue(w.tenant, w.id)
	}
	s.backlog.run(ctx, s.analyseOne)
}

func (s *Service) analyseOne(ctx context.Context, w waiting) {
	r, err := s.store.load(w.tenant, w.id)
	if err != nil || ctx.Err() != nil {
		return // removed meanwhile
	}
	b, known := s.stored(r)
	switch {
	case r.Analysis == nil || r.uncounted() && !known:
		_, err = s.Backtrace(ctx, r)
	case r.uncounted():
		err = s.finish(r, b, false)
	default: // somebody asked for them before it was shelved
		err = s.store.weigh(r)
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("dump not analysed", "tenant", w.tenant, "dump", w.id, "err", err)
	}
	s.later(w.tenant, w.id)
	if err := s.store.tidy(w.tenant); err != nil {
		s.log.Warn("files of dropped dumps not removed", "tenant", w.tenant, "err", err)
	}
}

// Backtrace returns the stacks of a dump: those that are kept, or else it reads them, one dump at a time and
// the tenants in turn.
func (s *Service) Backtrace(ctx context.Context, r *Record) (*backtrace.Result, error) {
	if b, ok := s.stored(r); ok {
		return b, nil
	}
	if s.cfg.Analyze == nil {
		return nil, errors.New("this daemon has no analysis")
	}
	leave, err := s.reading.enter(ctx, r.Container.Tenant)
	if err != nil {
		return nil, err
	}
	defer leave()
	id := r.ID
	r, err = s.store.load(r.Container.Tenant, id)
	if err != nil {
		return nil, noSuchDump(id)
	}
	if b, ok := s.stored(r); ok { // by whom it waited for
		return b, nil
	}
	begun := s.cfg.Now()
	m := &meter{}
	defer func() { s.spent.charge(r.Container, m.read(), s.cfg.Now()) }()
	b, err := s.read(ctx, r, m)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	a := &Analysis{At: begun.UTC(), Took: s.cfg.Now().Sub(begun)}
	if err != nil {
		a.Error = err.Error()
	} else {
		a.Group, a.Exact, a.Top = s.cfg.Group(r, &b.Signature), b.Signature.Exact, topOf(b)
	}
	first := r.Analysis == nil
	if !first && r.Analysis.State != "" { // where it is counted it stays, whatever is read out of it later
		a.Group, a.State = r.Analysis.Group, r.Analysis.State
	}
	r.Analysis = a
	var unfinished error
	m.during(func() { unfinished = s.finish(r, b, first) })
	return b, errors.Join(err, unfinished)
}

// stored returns the stacks that were read before.
func (s *Service) stored(r *Record) (*backtrace.Result, bool) {
	if r.Analysis == nil {
		return nil, false
	}
	b, err := s.store.backtrace(r)
	return b, err == nil && b.Version == backtrace.Version
}

// finish keeps what was found. What others are told comes before the record says that all is done: after a kill in between
// it is done again.
func (s *Service) finish(r *Record, b *backtrace.Result, first bool) error {
	var unsaved error
	if b != nil { // on a full volume the crash is told and counted all the same; the stacks are read anew when they are asked for
		unsaved = s.store.saveBacktrace(r, b)
	}
	if b != nil && r.uncounted() {
		var err error
		if r.Analysis.State, err = s.cfg.Count(r, &b.Signature); err != nil { // the next start tries again
			s.log.Error("crash not counted in its group", "tenant", r.Container.Tenant, "dump", r.ID, "group", r.Analysis.Group, "err", err)
		}
	}
	if first && r.Kind == "" {
		s.cfg.Analysed(*r)
	}
	return errors.Join(unsaved, s.store.save(r), s.store.weigh(r))
}

// uncounted: the stacks were read, and the group does not have the crash.
func (r *Record) uncounted() bool {
	return r.Kind == "" && r.Analysis != nil && r.Analysis.Group != "" && r.Analysis.State == ""
}

// topOf is where a crash happened, in a line.
func topOf(b *backtrace.Result) string {
	f := b.Top()
	switch {
	case f == nil:
		return ""
	case f.Func == "" && f.Module < 0:
		return fmt.Sprintf("%#x", f.PC)
	case f.Func == "":
		return fmt.Sprintf("%s+%#x", filepath.Base(b.Modules[f.Module].Path), f.Offset)
	case f.File != "":
		return fmt.Sprintf("%s (%s:%d)", f.Func, filepath.Base(f.File), f.Line)
	}
	return f.Func
}

// read has the stacks read from what the dump has most of. m measures it.
func (s *Service) read(ctx context.Context, r *Record, m *meter) (*backtrace.Result, error) {
	var core interface {
		io.Reader
		io.ReaderAt
		io.Closer
	}
	full, err := s.store.OpenCore(r)
	if err == nil {
		core = full
	} else if core, err = s.store.OpenMini(r); err != nil {
		return nil, err
	}
	defer core.Close()
	h, mem, err := memoryOf(core)
	if err != nil {
		return nil, err
	}
	if r.Body == BodyTruncated {
		if mini, err := s.store.OpenMini(r); err == nil { // it may have what the body did not come to
			defer mini.Close()
			if _, more, err := memoryOf(mini); err == nil {
				mem = either{mem, more}
			}
		}
	}
	files := make([]*os.File, len(r.Kept))
	for i, k := range r.Kept {
		if k.Object == "" {
			continue
		}
		if files[i], err = s.store.OpenObject(r.Container.Tenant, k.Object); err != nil {
			return nil, err
		}
		defer files[i].Close()
	}
	var b *backtrace.Result
	var took time.Duration
	m.during(func() { b, took, err = s.cfg.Analyze(ctx, process(r, h), metered{mem, m}, files) })
	m.add(took)
	return b, err
}

func (s *Store) backtrace(r *Record) (*backtrace.Result, error) {
	var b backtrace.Result
	if err := s.readDocument(r.Container.Tenant, r.ID, backtraceFile, maxBacktrace, &b); err != nil {
		return nil, err
	}
	return &b, nil
}

func (s *Store) saveBacktrace(r *Record, b *backtrace.Result) error {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, backtraceFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(b) })
}
