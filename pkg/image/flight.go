package image

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// flights are the pulls under way. Who asks for one that is under way joins it: it sees all lines from the beginning.
type flights struct {
	mu     sync.Mutex
	closed bool
	open   map[string]*flight
	wg     sync.WaitGroup
}

// flight is one pull, for all who wait for it. It is cancelled when the last of them goes.
type flight struct {
	cancel  context.CancelFunc
	waiting int // guarded by flights.mu

	mu    sync.Mutex
	lines []triton.ImageProgress // what was said once, in order; bounded by the number of layers
	bars  map[string]*bar        // the last state of what moves
	news  chan struct{}          // closed and replaced when a line is added or the flight ends
	done  bool
	err   error
}

// bar is a status whose bytes move. Readers see its latest state, not each.
type bar struct {
	triton.ImageProgress
	version uint64
}

// ride joins the flight of key, or starts one that does work, and gives its lines to emit until it ends.
// The context that work gets keeps ctx's values and ends when nobody waits any more.
func (fs *flights) ride(ctx context.Context, key string, work func(context.Context, *flight) error, emit func(triton.ImageProgress) error) error {
	fs.mu.Lock()
	if fs.closed {
		fs.mu.Unlock()
		return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
	}
	f := fs.open[key]
	if f == nil {
		f = fs.start(ctx, key, work)
	}
	f.waiting++
	fs.mu.Unlock()
	defer fs.leave(key, f)
	return f.follow(ctx, emit)
}

// start is called with fs.mu held.
func (fs *flights) start(ctx context.Context, key string, work func(context.Context, *flight) error) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{cancel: cancel, bars: map[string]*bar{}, news: make(chan struct{})}
	if fs.open == nil {
		fs.open = map[string]*flight{}
	}
	fs.open[key] = f
	fs.wg.Go(func() {
		defer cancel()
		err := work(ctx, f)
		fs.forget(key, f)
		f.end(err)
	})
	return f
}

// leave ends a flight that nobody waits for. One that is asked for again meanwhile starts anew.
func (fs *flights) leave(key string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if fs.open[key] == f {
		delete(fs.open, key)
	}
}

// any says whether anything is under way.
func (fs *flights) any() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.open) > 0
}

func (fs *flights) forget(key string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.open[key] == f {
		delete(fs.open, key)
	}
}

// close cancels all flights and waits for them.
func (fs *flights) close() {
	fs.mu.Lock()
	fs.closed = true
	for _, f := range fs.open {
		f.cancel()
	}
	fs.mu.Unlock()
	fs.wg.Wait()
}

// say adds a line without bytes.
func (f *flight) say(id, status string) { f.line(triton.ImageProgress{ID: id, Status: status}) }

// line adds a line; a bar of the same id stops moving.
func (f *flight) line(p triton.ImageProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bars, p.ID)
	f.lines = append(f.lines, p)
	f.wake()
}

// move sets a bar.
func (f *flight) move(id, status string, current, total int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.bars[id]
	if b == nil {
		b = &bar{}
		f.bars[id] = b
	}
	b.ImageProgress = triton.ImageProgress{ID: id, Status: status, Current: current, Total: total}
	b.version++
}

func (f *flight) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.err = true, err
	f.wake()
}

// wake is called with f.mu held.
func (f *flight) wake() {
	close(f.news)
	f.news = make(chan struct{})
}

// barEvery is how often clients see bytes move; docker's daemon does it as often.
const barEvery = 100 * time.Millisecond

// follow gives all lines, old and new, to emit, and what the flight ended with.
func (f *flight) follow(ctx context.Context, emit func(triton.ImageProgress) error) error {
	tick := time.NewTicker(barEvery)
	defer tick.Stop()
	at, seen := 0, map[string]uint64{}
	for {
		batch, news, done, err := f.since(at, seen)
		at += batch.lines
		for _, p := range batch.all {
			if err := emit(p); err != nil {
				return err
			}
		}
		if done {
			return err
		}
		select {
		case <-news:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// batch is what a reader has not seen: lines first, then the bars that moved.
type batch struct {
	all   []triton.ImageProgress
	lines int
}

func (f *flight) since(at int, seen map[string]uint64) (b batch, news <-chan struct{}, done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b.lines = len(f.lines) - at
	b.all = append(b.all, f.lines[at:]...)
	for id, bar := range f.bars {
		if seen[id] != bar.version {
			seen[id] = bar.version
			b.all = append(b.all, bar.ImageProgress)
		}
	}
	return b, f.news, f.done, f.err
}
