package probes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// QuestionsMax bounds the questions of the machine: one about system calls costs every process of it some 0.2 us per call.
	QuestionsMax = 8
	// questionsPerTenant leaves room for others.
	questionsPerTenant = 4
	// answerEvery is how often a question is answered.
	answerEvery = time.Second
	// rowsMax bounds the rows of an answer, rowsWithLatency those with a histogram, each on two sides: 0.3 to 0.7 MiB of kernel memory.
	rowsMax, rowsWithLatency = 1024, 256
)

// Asking is who asks, and what they may see.
type Asking struct {
	Tenant triton.Tenant // whose containers it is about
	// Describe tells what predicates and answers say of a container; false: it is there no more. It may be called by Watch.
	Describe func(triton.ContainerKey) (question.Subject, bool)
	// Remote names an address; nil, or "": as it is.
	Remote func(netip.Addr) string
}

// questions are those that run.
type questions struct {
	quota
	mu   sync.Mutex
	open []*asked
}

// asked is a question that is attached.
type asked struct {
	loaded
	q    *question.Question
	who  Asking
	side uint32
	read time.Time // when it was last read
	lost uint64    // that were told

	price   atomic.Pointer[question.Price]
	devices map[uint64]string

	mu       sync.Mutex // guards what follows
	over     bool
	last     uint32 // subject
	subjects map[uint32]*subject
	byKey    map[triton.ContainerKey]uint32 // those that are watched and can count
}

// subject is a container of a question.
type subject struct {
	question.Subject
	ids   CgroupIDs
	entry uint64
	gone  time.Time // zero: it is watched
}

// Ask answers q once a second with what the tenant's containers did in it, those that come meanwhile included, until ctx is
// done, the probes are closed, or each returns an error, which Ask then returns. started is called once it is attached. Too
// many questions are errdefs.ErrResourceExhausted; programs that this kernel refuses are errdefs.ErrUnavailable. Any level will do.
func (p *Probes) Ask(ctx context.Context, q *question.Question, who Asking, started func(), each func(question.Answer) error) (err error) {
	if err := p.questions.take(who.Tenant); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer p.questions.give(who.Tenant)
	a, err := p.loadAsked(q, who)
	if err != nil {
		return fmt.Errorf("ask about %s: %w", q.Metric, err)
	}
	p.questions.add(a)
	defer func() {
		p.questions.remove(a)
		err = errors.Join(err, a.close())
	}()
	if err := a.look(p); err != nil {
		return fmt.Errorf("ask about %s: %w", q.Metric, err)
	}
	started()
	every := time.NewTicker(answerEvery)
	defer every.Stop()
	for a.read = time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		if p.isClosed() {
			return nil
		}
		answer, err := a.answer(p)
		if err == nil {
			err = each(answer)
		}
		if err != nil {
			return fmt.Errorf("ask about %s: %w", q.Metric, err)
		}
	}
}

// Questions is how many run.
func (p *Probes) Questions() int { return p.questions.count() }

func (p *Probes) isClosed() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.closed
}

func (qs *questions) add(a *asked) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.open = append(qs.open, a)
}

func (qs *questions) remove(a *asked) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.open = slices.DeleteFunc(qs.open, func(o *asked) bool { return o == a })
}

func (qs *questions) now() []*asked {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return slices.Clone(qs.open)
}

// admit makes a container part of the questions that it concerns, before anything of it runs.
func (qs *questions) admit(key triton.ContainerKey, ids CgroupIDs) error {
	var errs []error
	for _, a := range qs.now() {
		a.mu.Lock()
		errs = append(errs, a.admit(key, ids))
		a.mu.Unlock()
	}
	return errors.Join(errs...)
}

// close detaches. A container that comes meanwhile finds the question over.
func (a *asked) close() error {
	a.mu.Lock()
	a.over = true
	a.mu.Unlock()
	return a.loaded.close()
}

// look makes the question one of the containers that are watched now, by the names that they have now.
func (a *asked) look(p *Probes) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := map[triton.ContainerKey]bool{}
	var errs []error
	for _, w := range p.watchedNow() {
		now[w.Key] = true
		errs = append(errs, a.admit(w.Key, w.ids))
	}
	for key := range a.byKey {
		if !now[key] {
			errs = append(errs, a.leave(key, time.Now()))
		}
	}
	for number, s := range a.subjects {
		if !s.gone.IsZero() && time.Since(s.gone) > 2*answerEvery { // an answer after its end was told
			delete(a.subjects, number)
		}
	}
	return errors.Join(errs...)
}

// admit enters a container or brings its entry up to date. The caller holds mu.
func (a *asked) admit(key triton.ContainerKey, ids CgroupIDs) error {
	if key.Tenant != a.who.Tenant || a.over {
		return nil
	}
	d, there := a.who.Describe(key)
	facts, counts := a.q.Admits(d)
	if !there || !counts {
		return a.leave(key, time.Now())
	}
	number, known := a.byKey[key]
	if known && a.subjects[number].ids.V2 != ids.V2 { // another run
		if err := a.leave(key, time.Now()); err != nil {
			return err
		}
		known = false
	}
	if !known {
		a.last++
		number = a.last
		a.byKey[key], a.subjects[number] = number, &subject{ids: ids}
	}
	s := a.subjects[number]
	s.Subject = d
	entry := uint64(facts)<<32 | uint64(number)
	if s.entry == entry {
		return nil
	}
	s.entry = entry
	for _, in := range a.entries(ids) {
		if err := in.m.Put(in.id, entry); err != nil {
			return fmt.Errorf("ask of cgroup %d: %w", in.id, err)
		}
	}
	return nil
}

// leave forgets a container but for the name that what it did is told by. The caller holds mu.
func (a *asked) leave(key triton.ContainerKey, now time.Time) error {
	number, known := a.byKey[key]
	if !known || a.over {
		return nil
	}
	delete(a.byKey, key)
	s := a.subjects[number]
	s.gone = now
	var errs []error
	for _, in := range a.entries(s.ids) {
		errs = append(errs, forget(in.m, in.id))
	}
	return errors.Join(errs...)
}

// cgroupEntry is a cgroup's place in a map.
type cgroupEntry struct {
	m  *ebpf.Map
	id uint64
}

// entries are the places of a container's cgroups: those of block I/O have ids of their own.
func (a *asked) entries(ids CgroupIDs) []cgroupEntry {
	m := a.maps[bpf.AskSyscallsMapAsked]
	if a.q.Metric == question.Block {
		return []cgroupEntry{{m, ids.blkio()}}
	}
	return []cgroupEntry{{m, ids.V2}}
}

// tellPrices notes what each question's programs cost between two readings of the kernel's clock of them.
func (qs *questions) tellPrices(before, after map[*ebpf.Program]programStat, window time.Duration) {
	for _, a := range qs.now() {
		price := question.Price{}
		for _, prog := range a.resident {
			was, is := before[prog], after[prog]
			price.Runs += float64(is.runs-min(was.runs, is.runs)) / window.Seconds()
			price.CPU += (is.time - min(was.time, is.time)).Seconds() / window.Seconds()
		}
		a.price.Store(&price)
	}
}

// eachSet shows the programs of each question, which none closes meanwhile.
func (qs *questions) eachSet(do func(map[string]*ebpf.Program)) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for _, a := range qs.open {
		do(a.resident)
	}
}
