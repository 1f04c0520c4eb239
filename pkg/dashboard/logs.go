package dashboard

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// logLines is how many a snapshot has, and how many may wait for the next frame: 50 ms of more are skipped, and counted.
	logLines = 400
	// logText is how long a shown line may be.
	logText = 4 << 10
	// logPerSecond bounds what a group sends: nobody reads faster, and a browser must draw it.
	logPerSecond = 2000
	// followAgain is how often an ended container is looked at, until it runs again.
	followAgain = 500 * time.Millisecond
)

// logSource is the source of the topic logs.
type logSource struct {
	cfg  Config
	key  triton.ContainerKey
	last []LogRow

	skipped uint64
	ended   bool
}

// run follows the log through the container's runs.
func (l *logSource) run(ctx context.Context, publish func(func() body)) error {
	var since time.Time
	tail := logLines
	begun := false
	for {
		p := &pending{}
		stop := make(chan struct{})
		done := make(chan error, 1)
		if !begun {
			// The lines that are there come before the first frame, which then has them all.
			if err := l.read(ctx, triton.LogOptions{Stdout: true, Stderr: true, Tail: tail}, p, &since); err != nil {
				return err
			}
			rows, skipped := p.take(logLines)
			publish(func() body { l.last, l.skipped = rows, skipped; return nil })
			begun = true
		}
		go func() {
			defer close(stop)
			opt := triton.LogOptions{Stdout: true, Stderr: true, Tail: -1, Follow: true, Since: since}
			done <- l.read(ctx, opt, p, &since)
		}()
		l.drain(p, stop, publish)
		if err := <-done; err != nil || ctx.Err() != nil {
			return err
		}
		if err := l.pause(ctx, publish); err != nil {
			return err
		}
	}
}

// read collects lines; since moves on behind the last.
func (l *logSource) read(ctx context.Context, opt triton.LogOptions, p *pending, since *time.Time) error {
	return l.cfg.Containers.ContainerLogs(ctx, l.key, opt, func(r triton.LogRecord) error {
		*since = r.Time.Add(time.Nanosecond)
		p.add(r)
		return nil
	})
}

// drain sends what waits until the reader has stopped and nothing does.
func (l *logSource) drain(p *pending, stop <-chan struct{}, publish func(func() body)) {
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for stopped := false; ; {
		rows, skipped := p.take(logPerSecond / int(time.Second/batchEvery))
		if len(rows) > 0 || skipped > 0 {
			publish(func() body { return l.take(rows, skipped) })
		} else if stopped {
			return
		}
		select {
		case <-stop:
			stopped = true
			stop = nil
		case <-tick.C:
		}
	}
}

func (l *logSource) take(rows []LogRow, skipped uint64) body {
	l.last, l.skipped, l.ended = lastOf(append(l.last, rows...), logLines), l.skipped+skipped, false
	return &LogFrame{Lines: rows, Skipped: skipped}
}

// pause waits until the container runs again.
func (l *logSource) pause(ctx context.Context, publish func(func() body)) error {
	publish(func() body { l.ended = true; return &LogFrame{Ended: true} })
	tick := time.NewTicker(followAgain)
	defer tick.Stop()
	changes := l.cfg.Containers.Changes()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		now := l.cfg.Containers.Changes()
		if now == changes {
			continue
		}
		changes = now
		runs, err := l.runs(ctx)
		if runs || err != nil {
			return err
		}
	}
}

// runs reports whether the container runs; a removed one is an error that ContainerLogs will give.
func (l *logSource) runs(ctx context.Context) (bool, error) {
	list, err := l.cfg.Containers.ListContainers(ctx, l.key.Tenant)
	if err != nil {
		return false, err
	}
	for i := range list {
		if list[i].Key == l.key {
			s := list[i].State.Status
			return s.Runs(), nil
		}
	}
	return true, nil
}

// whole implements source.
func (l *logSource) whole(bool) body {
	return &LogFrame{Lines: l.last, Skipped: l.skipped, Ended: l.ended}
}

// pending holds lines between the reader and the sender.
type pending struct {
	mu      sync.Mutex
	rows    []LogRow
	skipped uint64
	partial map[string]bool // by stream: the last record had no newline
}

// add takes one record; parts of a long line are joined as far as it is shown. The oldest line makes room.
func (p *pending) add(r triton.LogRecord) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, whole := bytes.CutSuffix(r.Line, []byte("\n"))
	if p.partial == nil {
		p.partial = map[string]bool{}
	}
	goesOn := p.partial[r.Stream]
	p.partial[r.Stream] = !whole
	if n := len(p.rows); goesOn && n > 0 && p.rows[n-1].Err == (r.Stream == "stderr") {
		last := &p.rows[n-1]
		last.Text, last.Cut = join(last.Text, text, last.Cut)
		return
	}
	row := LogRow{TimeMs: r.Time.UnixMilli(), Err: r.Stream == "stderr"}
	row.Text, row.Cut = join("", text, false)
	if len(p.rows) >= logLines {
		p.rows = append(p.rows[:0:0], p.rows[1:]...)
		p.skipped++
	}
	p.rows = append(p.rows, row)
}

// join appends to a shown line up to its bound, as valid UTF-8.
func join(have string, more []byte, cut bool) (string, bool) {
	if room := logText - len(have); len(more) > room {
		more, cut = more[:max(room, 0)], true
	}
	return have + strings.ToValidUTF8(string(more), "\uFFFD"), cut
}

// take gives at most n of the lines that wait, oldest first, and how many were skipped.
func (p *pending) take(n int) ([]LogRow, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.rows))
	rows, skipped := p.rows[:n:n], p.skipped
	p.rows, p.skipped = append([]LogRow(nil), p.rows[n:]...), 0
	return rows, skipped
}
