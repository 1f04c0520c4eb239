package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxRights bounds the descriptors of one message: SCM_MAX_FD of include/net/scm.h.
const maxRights = 253

// conn is one connection of either side. Reads collect the descriptors that come with the bytes, so that a peer that
// sends some unasked cannot leave them open unseen. It is used by one goroutine at a time; hangUp may be called by any.
type conn struct {
	*net.UnixConn
	files []*os.File // received and not yet taken

	mu     sync.Mutex
	over   bool    // hangUp was called
	client *client // set when the connection carries a process's output
}

// carry makes c the owner of the connection's end.
func (c *conn) carry(to *client) {
	c.mu.Lock()
	c.client = to
	over := c.over
	c.mu.Unlock()
	if over {
		to.release()
	}
}

// hangUp closes the connection because its server ends. A client whose output has ended keeps it until it has all.
func (c *conn) hangUp() {
	c.mu.Lock()
	c.over = true
	to := c.client
	c.mu.Unlock()
	if to != nil {
		to.release()
		return
	}
	c.Close()
}

// Read implements io.Reader over recvmsg.
func (c *conn) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxRights*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(p, oob)
	if oobn > 0 {
		files, perr := FilesOf(oob[:oobn])
		c.files = append(c.files, files...)
		if perr != nil || flags&unix.MSG_CTRUNC != 0 || len(c.files) > maxRights {
			c.dropFiles()
			return 0, errors.New("receive descriptors: malformed or too many")
		}
	}
	if err == nil && n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, err
}

// FilesOf returns the descriptors in the control messages of a datagram or read of a Unix socket; the caller closes them.
func FilesOf(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // another kind of control message
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// takeFiles hands over what was received; the caller closes it.
func (c *conn) takeFiles() []*os.File {
	files := c.files
	c.files = nil
	return files
}

func (c *conn) dropFiles() {
	for _, f := range c.takeFiles() {
		f.Close()
	}
}

// sendFrame sends a frame with descriptors beside its first byte.
func (c *conn) sendFrame(frame []byte, files []*os.File) error {
	if len(files) == 0 {
		_, err := c.Write(frame)
		return err
	}
	if len(files) > maxRights {
		return fmt.Errorf("send %d descriptors: the kernel takes %d", len(files), maxRights)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = rawFD(f)
	}
	n, _, err := c.WriteMsgUnix(frame, unix.UnixRights(fds...), nil)
	if err != nil {
		return err
	}
	if n < len(frame) {
		_, err = c.Write(frame[n:])
	}
	return err
}

// fd returns the connection's descriptor, -1 when it is closed.
func (c *conn) fd() int { return controlFD(c.UnixConn) }

// rawFD returns f's descriptor without what f.Fd does: putting it into blocking mode, which costs a thread per read.
// It is -1 for a closed file.
func rawFD(f *os.File) int { return controlFD(f) }

func controlFD(f syscall.Conn) int {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	fd := -1
	if err := raw.Control(func(d uintptr) { fd = int(d) }); err != nil {
		return -1
	}
	return fd
}

// call sends one request and decodes its answer into reply (nil: none expected). A *Error is the peer's refusal, after
// which the connection is as good as before; after any other error it is not, and must be closed.
func (c *conn) call(ctx context.Context, verb Verb, body, reply any, files []*os.File) error {
	frame, err := encodeRequest(verb, body)
	if err != nil {
		return err
	}
	stop := c.bound(ctx)
	err = c.exchange(frame, files, reply)
	stop()
	if err == nil {
		return nil
	}
	var refused *Error
	if errors.As(err, &refused) {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

func (c *conn) exchange(frame []byte, files []*os.File, reply any) error {
	if err := c.sendFrame(frame, files); err != nil {
		return err
	}
	var resp Response
	if err := readMessage(c, &resp); err != nil {
		return err
	}
	if resp.Error != nil {
		return resp.Error
	}
	if _, maybe := reply.(**AttachReply); reply == nil || maybe && resp.Body == nil { // an older peer says nothing there
		return nil
	}
	if err := json.Unmarshal(resp.Body, reply); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// bound makes ctx interrupt reads and writes until the returned function was called, which waits for that and leaves the
// connection without a deadline: an answer may have come just before ctx ended, and then the connection is used again.
func (c *conn) bound(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = c.SetDeadline(time.Unix(1, 0)) // in the past: wakes whoever waits; nobody waits on a closed connection
	})
	return func() {
		if cancel() {
			return
		}
		<-ended
		_ = c.SetDeadline(time.Time{}) // a closed connection takes none, and needs none
	}
}
