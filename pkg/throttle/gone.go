package throttle

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// look is how often the connection of a request that waits is looked at.
const look = 250 * time.Millisecond

// socketKey is where ConnContext leaves a connection that has a socket.
type socketKey struct{}

// ConnContext is a http.Server's. It lets a Throttle see that the client of a waiting request is gone, while net/http does not read the
// connection: that reads on only once a request's body has been read, which is the handler's to do.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if encrypted, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = encrypted.NetConn()
	}
	if c, ok := c.(syscall.Conn); ok {
		return context.WithValue(ctx, socketKey{}, c)
	}
	return ctx
}

// whileConnected is the context of a request, that ends when the client has closed its connection as well, or its half, as net/http's does
// after the body. Nothing is read: what the client sent before is the handler's, and that of a connection which it takes over. stop must be called.
func whileConnected(r *http.Request) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	conn, ok := ctx.Value(socketKey{}).(syscall.Conn)
	if !ok {
		return ctx, cancel
	}
	socket, err := conn.SyscallConn()
	if err != nil {
		return ctx, cancel
	}
	looks := time.AfterFunc(look, func() { // most requests wait for less
		for !closed(socket) {
			select {
			case <-time.After(look):
			case <-ctx.Done():
				return
			}
		}
		cancel()
	})
	return ctx, func() {
		looks.Stop()
		cancel()
	}
}

// closed tells whether the other side has closed a connection, or its half of it, though what it sent before has not been read.
func closed(socket syscall.RawConn) (yes bool) {
	err := socket.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0) // an error, such as EINTR, is no answer: the next look gives one
		yes = err == nil && n == 1
	})
	return yes || err != nil // the server has closed it
}
