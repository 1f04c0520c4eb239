package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// keeperBound is how long create waits for a keeper that is being restarted.
	keeperBound = 10 * time.Second
	// keeperPause and keeperPauseMax space the attempts to reach it.
	keeperPause    = 50 * time.Millisecond
	keeperPauseMax = 5 * time.Second
)

// keeperLink is a shim's connection to the keeper. It remembers what the keeper holds for this shim and hands it over
// again when the keeper was restarted, which it learns from the connection's end.
type keeperLink struct {
	path string
	logs *slog.Logger

	mu     sync.Mutex
	held   map[string]held // by exec id
	keeper *Keeper         // nil: not connected
	closed bool
	stop   chan struct{}
	ended  chan struct{} // closed when watch has ended; nil: never started
}

type held struct {
	req   HandoffRequest
	files []*os.File
}

func newKeeperLink(path string, logs *slog.Logger) *keeperLink {
	return &keeperLink{path: path, logs: logs, held: map[string]held{}, stop: make(chan struct{})}
}

// hold hands files to the keeper and returns when it has them. files stay the caller's, who keeps them open until
// release. After an error they are handed over as soon as the keeper can be reached.
func (l *keeperLink) hold(ctx context.Context, req HandoffRequest, files []*os.File) error {
	ctx, cancel := context.WithTimeout(ctx, keeperBound)
	defer cancel()
	l.mu.Lock()
	l.held[req.Exec] = held{req: req, files: files}
	if l.ended == nil {
		l.ended = make(chan struct{})
		go l.watch()
	}
	l.mu.Unlock()
	for pause := keeperPause; ; pause = min(2*pause, keeperPauseMax) {
		err := l.try(ctx, req.Exec)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("keeper holds nothing of %s: %w", req.Key, err)
		case <-time.After(pause):
		}
	}
}

// try connects if need be, which hands over everything, or else hands over one entry.
func (l *keeperLink) try(ctx context.Context, exec string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keeper == nil {
		return l.connect(ctx)
	}
	h, ok := l.held[exec]
	if !ok {
		return nil
	}
	err := l.keeper.Handoff(ctx, h.req, h.files)
	if errors.Is(err, ErrShimGone) {
		l.drop()
	}
	return err
}

// connect dials and hands over everything. l.mu is held.
func (l *keeperLink) connect(ctx context.Context) error {
	if l.closed {
		return os.ErrClosed
	}
	k, _, err := DialKeeper(ctx, l.path, Hello{Protocol: ProtocolVersion})
	if err != nil {
		return err
	}
	for _, h := range l.held {
		if err := k.Handoff(ctx, h.req, h.files); err != nil {
			k.Close()
			return err
		}
	}
	l.keeper = k
	return nil
}

func (l *keeperLink) drop() {
	if l.keeper != nil {
		l.keeper.Close()
		l.keeper = nil
	}
}

// watch is the link's goroutine: it notices that the keeper is gone and looks for the next one.
func (l *keeperLink) watch() {
	defer close(l.ended)
	pause := keeperPause
	for {
		if !l.connected() {
			select {
			case <-l.stop:
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, keeperPauseMax)
			ctx, cancel := context.WithTimeout(context.Background(), keeperBound)
			l.mu.Lock()
			if l.keeper == nil {
				if err := l.connect(ctx); err == nil {
					l.logs.Info("handed over to keeper")
				}
			}
			l.mu.Unlock()
			cancel()
			continue
		}
		pause = keeperPause
		if !l.awaitEnd() {
			return
		}
	}
}

func (l *keeperLink) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keeper != nil
}

// awaitEnd blocks until the keeper's connection ended; false: the link was closed.
func (l *keeperLink) awaitEnd() bool {
	l.mu.Lock()
	k := l.keeper
	l.mu.Unlock()
	if k == nil {
		return true
	}
	end, err := k.hangup()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if err == nil {
			awaitHangup(end)
		}
	}()
	select {
	case <-gone:
	case <-l.stop:
	}
	end.Close()
	<-gone
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keeper == k && !l.closed {
		l.drop()
	}
	return !l.closed
}

// release has the keeper close its copies and forgets them.
func (l *keeperLink) release(req ReleaseRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if req.Exec == "" {
		clear(l.held)
	} else {
		delete(l.held, req.Exec)
	}
	if l.keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keeperBound)
	defer cancel()
	if err := l.keeper.Release(ctx, req); err != nil && !errors.Is(err, io.EOF) {
		l.logs.Warn("keeper release", "exec", req.Exec, "err", err)
		if errors.Is(err, ErrShimGone) {
			l.drop()
		}
	}
}

// close ends the link; the keeper keeps what was not released.
func (l *keeperLink) close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	close(l.stop)
	ended := l.ended
	l.mu.Unlock()
	if ended != nil {
		<-ended
	}
	l.mu.Lock()
	l.drop()
	l.mu.Unlock()
}
