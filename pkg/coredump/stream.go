package coredump

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/coredump/handover"
	"github.com/tritond/triton/pkg/shim"
)

// stream is a core that the kernel offers, in whichever form.
type stream interface {
	// begin asks for the core; its bytes are to be read.
	begin() (io.Reader, error)
	// cut says that no more of it is read. The process stays held until close.
	cut() error
	// reject says that none of it is wanted.
	reject() error
	// unbound lets the reading take as long as it does.
	unbound() error
	close() error
}

// socketStream is a core on the kernel's own socket.
type socketStream struct {
	conn    *net.UnixConn
	request []byte // its first bytes
}

func (s *socketStream) begin() (io.Reader, error) {
	return s.conn, hello(s.request, s.conn, askKernel|askWait)
}
func (s *socketStream) cut() error     { return s.conn.CloseRead() } // the kernel's write fails, and it waits for the close
func (s *socketStream) reject() error  { return hello(s.request, s.conn, askReject) }
func (s *socketStream) unbound() error { return s.conn.SetDeadline(time.Time{}) }
func (s *socketStream) close() error   { return s.conn.Close() }

// pipeStream is a core in a pipe. The kernel holds the process while it writes, and until nobody has the other end open.
type pipeStream struct{ *os.File }

func (s pipeStream) begin() (io.Reader, error) { return s.File, nil }
func (s pipeStream) cut() error                { return nil } // what is not read fills the pipe, and the writer waits
func (s pipeStream) reject() error             { return nil }
func (s pipeStream) unbound() error            { return s.SetDeadline(time.Time{}) }
func (s pipeStream) close() error              { return s.Close() }

// errProbe says that somebody only wanted to know whether the socket is alive.
var errProbe = errors.New("a connection that says nothing")

// open reads the first message of a connection: the kernel's request, or what a pipe helper hands over.
func open(conn *net.UnixConn) (stream, *peer, error) {
	first, oob := make([]byte, requestSize), make([]byte, unix.CmsgSpace(4*handover.Files))
	n, oobn, _, _, err := conn.ReadMsgUnix(first, oob)
	if n == 0 {
		return nil, nil, errProbe
	}
	files, ferr := shim.FilesOf(oob[:oobn])
	if err = errors.Join(err, ferr); err == nil && n < len(first) {
		_, err = io.ReadFull(conn, first[n:])
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("core request: %w", err), closeAll(files))
	}
	if len(files) > 0 {
		s, p, err := handedOver(conn, first, files)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll(files))
		}
		return s, p, nil
	}
	p, err := peerOf(conn)
	if err != nil {
		return nil, nil, err
	}
	return &socketStream{conn, first}, p, nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
