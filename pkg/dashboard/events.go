package dashboard

import (
	"context"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// eventsFor and eventsMax bound what a snapshot of events shows.
	eventsFor = time.Hour
	eventsMax = 500
	// batchEvery is how long events and log lines are collected before they are sent together.
	batchEvery = 50 * time.Millisecond
)

// eventSource is the source of the topic events: those of one container.
type eventSource struct {
	cfg  Config
	key  triton.ContainerKey
	last []EventRow
	lost uint64
}

// run follows the journal. A slow group holds up nobody: the journal reads from its files.
func (e *eventSource) run(ctx context.Context, publish func(func() body)) error {
	publish(func() body { return nil }) // an empty list is a state
	var since time.Time
	if now := e.cfg.Now(); now.Unix() > 0 {
		since = now.Add(-eventsFor)
	}
	queue := make(chan EventRow)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return e.cfg.Events.Stream(ctx, e.key.Tenant, since, time.Time{}, func(ev triton.Event) error { return e.pick(ctx, ev, queue) })
	})
	g.Go(func() error {
		return batches(ctx, queue, func(rows []EventRow) {
			publish(func() body { return e.take(rows) })
		})
	})
	return g.Wait()
}

// actionLost is the journal's word for events that it had no more.
const actionLost = "lost"

// pick queues what concerns the container.
func (e *eventSource) pick(ctx context.Context, ev triton.Event, queue chan<- EventRow) error {
	gap := ev.Type == triton.EventDaemon && ev.Action == actionLost
	if !gap && (ev.Type != triton.EventContainer || ev.ID != e.key.ID) {
		return nil
	}
	row := EventRow{TimeMs: ev.Time.UnixMilli(), Action: ev.Action, Attrs: ev.Attributes}
	select {
	case queue <- row:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *eventSource) take(rows []EventRow) body {
	f := &EventFrame{}
	for _, r := range rows {
		if r.Action == actionLost {
			n, err := strconv.ParseUint(r.Attrs["count"], 10, 64)
			if err != nil {
				n = 1 // some were
			}
			f.Lost += n
			continue
		}
		f.Events = append(f.Events, r)
	}
	e.last, e.lost = lastOf(append(e.last, f.Events...), eventsMax), e.lost+f.Lost
	return f
}

// whole implements source.
func (e *eventSource) whole(bool) body { return &EventFrame{Events: e.last, Lost: e.lost} }

// lastOf keeps the last n of a list, in memory of its own when it cuts.
func lastOf[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	return append(make([]T, 0, n+n/2), list[len(list)-n:]...)
}

// batches hands over what comes within batchEvery together, until ctx ends or the queue is closed.
func batches[T any](ctx context.Context, queue <-chan T, flush func([]T)) error {
	for {
		var rows []T
		var due <-chan time.Time
		timer := time.NewTimer(batchEvery)
		for open := true; open; {
			select {
			case r, ok := <-queue:
				if !ok {
					timer.Stop()
					if len(rows) > 0 {
						flush(rows)
					}
					return nil
				}
				if len(rows) == 0 {
					timer.Reset(batchEvery)
					due = timer.C
				}
				rows = append(rows, r)
			case <-due:
				open = false
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
		flush(rows)
	}
}
