package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// death records that etcd gave up. etcd ends the process on such errors (zap's Fatal and Panic); a daemon with
// containers to look after must not end, so the goroutine that gave up ends instead and the store answers
// ErrUnavailable.
type death struct {
	once sync.Once
	done chan struct{}
	why  string // readable once done is closed
}

func newDeath() *death { return &death{done: make(chan struct{})} }

// reason is empty while etcd works.
func (d *death) reason() string {
	select {
	case <-d.done:
		return d.why
	default:
		return ""
	}
}

// whileOpening is the error of a start that etcd gave up: damage, where etcd could not read what it found.
func (d *death) whileOpening() error {
	var kind error = errdefs.ErrUnavailable
	switch why := d.reason(); {
	case strings.Contains(why, syscall.ENOSPC.Error()):
		kind = errdefs.ErrResourceExhausted
	case strings.Contains(why, "WAL"), strings.Contains(why, "database"), strings.Contains(why, "backend"):
		kind = errdefs.ErrDataLoss
	}
	return fmt.Errorf("etcd cannot start: %s: %w", d.reason(), kind)
}

// OnWrite is zap's hook behind a Fatal or Panic entry. It does not return.
func (d *death) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	d.once.Do(func() {
		d.why = entry.Message
		for _, f := range fields {
			if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
				d.why += ": " + err.Error()
			}
		}
		close(d.done)
	})
	runtime.Goexit()
}

// newZap gives etcd a logger that writes to log.
func newZap(log *slog.Logger, d *death) *zap.Logger {
	return zap.New(&slogCore{log: log}, zap.WithFatalHook(d), zap.WithPanicHook(d))
}

// slogCore is a zapcore.Core on slog. etcd's Info is an operator's Debug: it tells of every start in 20 lines.
type slogCore struct {
	log    *slog.Logger
	fields []zapcore.Field
}

// emptyStore is an error to etcd at the first start of every data directory, before it has written its version.
const emptyStore = "failed to update storage version"

func slogLevel(e zapcore.Entry) slog.Level {
	switch l := e.Level; {
	case e.Message == emptyStore:
		return slog.LevelDebug
	case l >= zapcore.DPanicLevel:
		return slog.LevelError
	case l == zapcore.ErrorLevel:
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// Enabled reports whether entries of level l are written.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(zapcore.Entry{Level: l}))
}

// With returns a core that adds fields to each entry.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{log: c.log, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check adds c to an entry that is enabled.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.log.Enabled(context.Background(), slogLevel(e)) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write hands one entry to slog.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2+2*len(enc.Fields))
	args = append(args, "from", "etcd")
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	c.log.Log(context.Background(), slogLevel(e), e.Message, args...)
	return nil
}

// Sync does nothing: slog does not buffer.
func (c *slogCore) Sync() error { return nil }
