package dockerapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	mobytypes "github.com/moby/moby/api/types"
	"golang.org/x/sys/unix"
)

const (
	// A client that is silent for keepIdle is asked keepProbes times, keepInterval apart, and then given up.
	keepIdle     = 30 * time.Second
	keepInterval = 10 * time.Second
	keepProbes   = 3
	// unackedLimit ends a TCP connection whose peer has taken nothing for so long: its unread output would hold up the
	// container. The kernel's own limit is about 15 minutes for a dead peer and none for one that lives but does not read.
	unackedLimit = 5 * time.Minute
	// lingerLimit is how long a closed stream waits for the client's own close. Closing earlier, while bytes of stdin lie
	// unread, would reset the connection and might cost the client the end of the output.
	lingerLimit = 10 * time.Second
	// multiplexedSince is the API version whose clients know the content type of framed streams.
	multiplexedSince = 42
)

// stream is a hijacked connection: from here on it carries a process's bytes.
type stream struct {
	conn net.Conn
	in   io.Reader // what the server had read already, then conn
	eof  atomic.Bool
}

// hijack takes over the connection and answers 101, or 200 to a client that did not ask for an upgrade. After it the
// handler must not return an error.
func (c *call) hijack(framed bool) (*stream, error) {
	// A body of known length is no input: dockerode sends its options once more, and docker drops them.
	if c.r.ContentLength > 0 {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(c.w, c.r.Body, maxBody)); err != nil {
			return nil, fmt.Errorf("request body: %w", err)
		}
	}
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, invalid("connection cannot be taken over: %v", err)
	}
	if w, ok := c.w.(*onceWriter); ok {
		w.begun = true
	}
	conn.SetDeadline(time.Time{}) //nolint:errcheck // a broken connection shows at the first write
	tuneTCP(conn)
	media := mobytypes.MediaTypeRawStream
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + media + "\r\n\r\n"
	if _, upgrade := c.r.Header["Upgrade"]; upgrade {
		if framed && c.version >= multiplexedSince {
			media = mobytypes.MediaTypeMultiplexedStream
		}
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" +
			"Api-Version: " + MaxAPIVersion + "\r\nOstype: linux\r\n\r\n"
	}
	// What the server had read already comes first. The rest must not come through its reader: that one ends the request's
	// context when the client ends its stdin.
	ahead, err := buffered.Peek(buffered.Reader.Buffered())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read what came with the request: %w", err)
	}
	st := &stream{conn: conn, in: io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), conn)}
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, fmt.Errorf("answer %s: %w", c.r.URL.Path, err)
	}
	return st, nil
}

func (st *stream) Read(p []byte) (int, error) {
	n, err := st.in.Read(p)
	if errors.Is(err, io.EOF) {
		st.eof.Store(true)
	}
	return n, err
}

func (st *stream) Write(p []byte) (int, error) { return st.conn.Write(p) }

// close tells the client that the output has ended, waits for its own end and closes.
func (st *stream) close() {
	defer st.conn.Close()
	half, ok := st.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || st.eof.Load() {
		return
	}
	st.conn.SetReadDeadline(time.Now().Add(lingerLimit)) //nolint:errcheck // then it closes at once
	io.Copy(io.Discard, st.conn)                         //nolint:errcheck // any end will do
}

// serve runs f with a context that ends when the client has vanished, and closes the stream behind it.
func (st *stream) serve(ctx context.Context, f func(context.Context) error) error {
	defer st.close()
	return serveConn(ctx, st.conn, f)
}

// serveConn runs f with a context that ends when the client has vanished. Reads and writes of f are ended too: the
// connection is closed under them.
func serveConn(ctx context.Context, conn net.Conn, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := watchHangup(conn, func() {
		cancel()
		conn.Close()
	})
	if err != nil {
		return err
	}
	defer stop()
	unhook := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is ending
	err = f(ctx)
	if unhook() {
		return err
	}
	return context.Cause(ctx)
}

// watchHangup calls gone when the peer has closed both directions: a client that only ended its stdin has not. The
// returned stop waits until gone cannot be called any more. An epoll descriptor of its own reports the hang-up alone,
// whatever the state of reads and writes on the connection, and costs neither a thread nor a timer.
func watchHangup(conn net.Conn, gone func()) (stop func(), err error) {
	raw, ok := rawConn(conn)
	if !ok {
		return func() {}, nil // not a socket of the kernel's (a test's pipe): its end shows at the next read or write
	}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	ep := os.NewFile(uintptr(epfd), "epoll")
	var ctlErr error
	err = raw.Control(func(fd uintptr) {
		// No events asked for: EPOLLHUP and EPOLLERR are always reported.
		ctlErr = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Fd: int32(fd)})
	})
	if err = errors.Join(err, ctlErr); err != nil {
		ep.Close()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if waitEpoll(ep) {
			gone()
		}
	}()
	return func() { ep.Close(); <-done }, nil
}

// waitEpoll blocks until an event is there (true) or ep was closed (false).
func waitEpoll(ep *os.File) bool {
	raw, err := ep.SyscallConn()
	if err != nil {
		return false
	}
	happened := false
	err = raw.Read(func(fd uintptr) bool {
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(int(fd), events[:], 0)
		happened = n > 0
		return happened || err != nil && !errors.Is(err, unix.EINTR)
	})
	return err == nil && happened
}

// rawConn returns the kernel's socket of conn, if it has one and it is open.
func rawConn(conn net.Conn) (syscall.RawConn, bool) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	return raw, err == nil
}

// tuneTCP bounds how long a dead peer can stay unnoticed. Unix sockets need nothing: the kernel knows at once.
func tuneTCP(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	tcp, ok := conn.(interface {
		syscall.Conn
		SetKeepAliveConfig(net.KeepAliveConfig) error
	})
	if !ok {
		return
	}
	tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepProbes}) //nolint:errcheck // best effort
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // best effort
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unackedLimit.Milliseconds())) //nolint:errcheck // best effort
	})
}
