package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/tritond/triton/pkg/triton"
)

// clientStream is a connection that carries a process's streams.
type clientStream interface {
	io.ReadWriter
	// serve runs f until the client has vanished, and closes the stream behind it.
	serve(ctx context.Context, f func(context.Context) error) error
}

// attachContainer takes over the request's connection.
func (s *Server) attachContainer(ctx context.Context, c *call) error {
	return s.attach(ctx, c, false, func(tty, _ bool) (clientStream, error) { return c.hijack(!tty) })
}

// attach connects the client before it answers, which open does: whoever sees the answer misses nothing that follows. all:
// every stream, whatever the query says. What is written to the stream is framed unless there is a terminal.
func (s *Server) attach(ctx context.Context, c *call, all bool, open func(tty, stdin bool) (clientStream, error)) error {
	opt := triton.AttachOptions{Stdin: all || c.query.bool("stdin"), Stdout: all || c.query.bool("stdout"), Stderr: all || c.query.bool("stderr")}
	keys, err := parseDetachKeys(c.query.Get("detachKeys"))
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
	opt.Stdin = opt.Stdin && ctr.Spec.OpenStdin
	logs := c.query.bool("logs")
	opt.AfterLog = logs
	var att Attachment
	if c.query.bool("stream") {
		if att, err = s.Backend.AttachContainer(ctx, key, opt); err != nil {
			return err
		}
	}
	st, err := open(ctr.Spec.TTY, opt.Stdin && att != nil)
	if err != nil {
		return errors.Join(err, closeAttachment(att))
	}
	served := false
	err = st.serve(ctx, func(ctx context.Context) error {
		if logs {
			var upTo *triton.LogPlace
			if att != nil {
				upTo = att.LogEnd()
			}
			if err := s.replayLogs(ctx, &ctr, opt, upTo, st); err != nil {
				return err
			}
		}
		if att == nil {
			return nil
		}
		served = true
		err := att.Serve(ctx, stdinOf(opt.Stdin, st, ctr.Spec.TTY, ctr.Spec.StdinOnce, keys), st)
		if leftByKeys(err) {
			att.Left()
		}
		return err
	})
	if !served {
		err = errors.Join(err, closeAttachment(att))
	}
	s.streamEnded(c, err)
	return nil
}

// replayLogs writes what the container's log has so far, or had where the stream begins that follows. A log that cannot be read
// is the end, and docker says so on stdout.
func (s *Server) replayLogs(ctx context.Context, ctr *triton.Container, opt triton.AttachOptions, upTo *triton.LogPlace, out io.Writer) error {
	sink := &recordWriter{out: out, framed: !ctr.Spec.TTY}
	err := s.Backend.ContainerLogs(ctx, ctr.Key, triton.LogOptions{Stdout: opt.Stdout, Stderr: opt.Stderr, Tail: -1, UpTo: upTo}, sink.write)
	if err != nil && ctx.Err() == nil {
		sink.note(stdcopy.Stdout, fmt.Sprintf("Error attaching: %s\n", messageOf(err)))
	}
	return err
}

// stdinOf is the reader to give to Attachment.Serve: nil without stdin, and one that knows the detach keys for a terminal.
// The client's end of stdin is the process's only when closes is true and there is no terminal; as in docker it is else
// the end of this attachment: who leaves a terminal does not end what runs on it.
func stdinOf(wanted bool, st io.Reader, tty, closes bool, keys []byte) io.Reader {
	switch {
	case !wanted:
		return nil
	case tty:
		return newDetachReader(endDetaches{st}, keys)
	case !closes:
		return endDetaches{st}
	}
	return st
}

// errInputEnded is the ErrDetached of a client that has no more input.
var errInputEnded = fmt.Errorf("%w: the input ended", ErrDetached)

// leftByKeys tells the ErrDetached of who typed the detach keys.
func leftByKeys(err error) bool { return errors.Is(err, ErrDetached) && !errors.Is(err, errInputEnded) }

// endDetaches is a reader whose end is errInputEnded.
type endDetaches struct{ io.Reader }

func (r endDetaches) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errInputEnded
	}
	return n, err
}

func closeAttachment(att Attachment) error {
	if att == nil {
		return nil
	}
	return att.Close()
}

// streamEnded logs an end that is neither the process's nor the user's.
func (s *Server) streamEnded(c *call, err error) {
	if err == nil || errors.Is(err, ErrDetached) || errors.Is(err, context.Canceled) {
		return
	}
	s.Log.Debug("stream ended", "path", c.r.URL.Path, "tenant", c.tenant, "err", err)
}
