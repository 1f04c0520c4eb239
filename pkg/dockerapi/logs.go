package dockerapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/moby/moby/api/pkg/stdcopy"
	mobytypes "github.com/moby/moby/api/types"

	"github.com/tritond/triton/pkg/triton"
)

// fixedNano is RFC 3339 with nine digits always, as docker logs --timestamps prints it.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

func (s *Server) containerLogs(ctx context.Context, c *call) error {
	opt, err := s.logOptions(c)
	if err != nil {
		return err
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	ctr, err := s.Backend.InspectContainer(ctx, key)
	if err != nil {
		return err
	}
	if ctr.Spec.Log.Driver == triton.LogNone {
		return notBuilt("configured logging driver does not support reading")
	}
	media := mobytypes.MediaTypeRawStream
	if !ctr.Spec.TTY && c.version >= multiplexedSince {
		media = mobytypes.MediaTypeMultiplexedStream
	}
	opened := false
	opt.Opened = func() error { // not before: who has the header gets the log, though the container is removed at once
		opened = true
		return c.flushHeader(media)
	}
	out := newFlusher(c.w)
	defer out.close()
	sink := &recordWriter{out: out, framed: !ctr.Spec.TTY, timestamps: c.query.bool("timestamps"), details: c.query.bool("details")}
	switch err := s.Backend.ContainerLogs(ctx, key, opt, sink.write); {
	case !opened:
		return err
	case err != nil && ctx.Err() == nil:
		// The header is out: docker reports it in the stream, and so that nobody takes a part for the whole.
		sink.note(stdcopy.Systemerr, fmt.Sprintf("Error grabbing logs: %s\n", messageOf(err)))
	}
	return nil
}

func (s *Server) logOptions(c *call) (triton.LogOptions, error) {
	opt := triton.LogOptions{Stdout: c.query.bool("stdout"), Stderr: c.query.bool("stderr"), Follow: c.query.bool("follow"), Tail: -1}
	if !opt.Stdout && !opt.Stderr {
		return opt, invalid("Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(c.query.Get("tail")); err == nil && n >= 0 {
		opt.Tail = n // "all", "-1" and anything else: all of it, as docker has it
	}
	var err error
	if opt.Since, err = c.query.time("since", s.Now()); err != nil {
		return opt, err
	}
	opt.Until, err = c.query.time("until", s.Now())
	return opt, err
}

// recordWriter writes log records as docker logs shows them: framed by stream unless the container has a terminal.
type recordWriter struct {
	out        io.Writer
	framed     bool
	timestamps bool
	details    bool // attributes in front of each line; there are none, so what is left is docker's space
	buf        bytes.Buffer
}

func (w *recordWriter) write(rec triton.LogRecord) error {
	w.begin(stdcopy.Stdout)
	if rec.Stream == "stderr" {
		w.begin(stdcopy.Stderr)
	}
	if w.timestamps {
		w.buf.WriteString(rec.Time.UTC().Format(fixedNano))
		w.buf.WriteByte(' ')
	}
	if w.details {
		w.buf.WriteByte(' ')
	}
	w.buf.Write(rec.Line)
	return w.end()
}

// note writes a message of the daemon's own.
func (w *recordWriter) note(stream stdcopy.StdType, text string) {
	w.begin(stream)
	w.buf.WriteString(text)
	w.end() //nolint:errcheck // the client is gone
}

// frameHeader is the length of docker's stream header: stream, three zero bytes, big-endian length.
const frameHeader = 8

func (w *recordWriter) begin(stream stdcopy.StdType) {
	w.buf.Reset()
	if w.framed {
		w.buf.Write([]byte{byte(stream), 0, 0, 0, 0, 0, 0, 0})
	}
}

func (w *recordWriter) end() error {
	b := w.buf.Bytes()
	if w.framed {
		binary.BigEndian.PutUint32(b[4:frameHeader], uint32(len(b)-frameHeader))
	}
	_, err := w.out.Write(b)
	return err
}

// flusher sends what was written to a response as soon as it can and no oftener: while one flush runs, writes gather.
type flusher struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	dirty chan struct{} // capacity 1: "there is something to flush"
	done  chan struct{}
}

// newFlusher starts the flushing; close ends it.
func newFlusher(w http.ResponseWriter) *flusher {
	f := &flusher{w: w, dirty: make(chan struct{}, 1), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *flusher) run() {
	defer close(f.done)
	control := http.NewResponseController(f.w)
	for range f.dirty {
		f.mu.Lock()
		_ = control.Flush() // the next write fails
		f.mu.Unlock()
	}
}

func (f *flusher) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(p)
	select {
	case f.dirty <- struct{}{}:
	default:
	}
	return n, err
}

func (f *flusher) close() {
	close(f.dirty)
	<-f.done
}
