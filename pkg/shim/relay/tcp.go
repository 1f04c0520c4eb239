package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpBuffer is read at once; a larger one makes no transfer faster (see the package's benchmark).
const tcpBuffer = 32 << 10

var tcpBuffers = sync.Pool{New: func() any { return new([tcpBuffer]byte) }}

// tcpPort is a listening socket.
type tcpPort struct {
	relay *Relay
	ln    *net.TCPListener

	mu     sync.Mutex
	target netip.AddrPort
	pairs  map[*pair]struct{}
}

func (r *Relay) openTCP(p Port) (server, error) {
	l, err := net.FileListener(p.Socket)
	if err != nil {
		return nil, err
	}
	ln, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("not a socket of TCP"), l.Close())
	}
	if err := listenOn(ln); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	t := &tcpPort{relay: r, ln: ln, target: p.Target, pairs: map[*pair]struct{}{}}
	r.running.Go(t.run)
	return t, nil
}

// listenOn makes room for those who come while one is accepted.
func listenOn(ln *net.TCPListener) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	err = raw.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), backlog) })
	return errors.Join(err, lerr)
}

// run accepts until the listener is closed.
func (t *tcpPort) run() {
	said := false
	for {
		client, err := t.ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !said {
				t.relay.log.Error("published port: accept", "port", t.ln.Addr(), "err", err)
				said = true
			}
			select {
			case <-time.After(acceptPause):
			case <-t.relay.quit:
				return
			}
			continue
		}
		if !t.admit() {
			client.Close()
			return
		}
		p := &pair{port: t, client: client, ended: make(chan struct{})}
		p.ctx, p.cancel = context.WithTimeout(context.Background(), dialBound)
		t.relay.running.Go(p.run)
	}
}

// admit waits for room for one more connection; false: the Relay is closed.
func (t *tcpPort) admit() bool {
	count := t.relay.count
	count.add(accepted, 1)
	select {
	case t.relay.slots <- struct{}{}:
	default:
		count.add(waited, 1)
		select {
		case t.relay.slots <- struct{}{}:
		case <-t.relay.quit:
			return false
		}
	}
	count.add(openConnections, 1)
	return true
}

func (t *tcpPort) retarget(to netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.target == to {
		return
	}
	t.target = to
	for p := range t.pairs {
		p.close(true)
	}
}

func (t *tcpPort) stop() { t.ln.Close() }

func (t *tcpPort) end(over <-chan struct{}) {
	t.mu.Lock()
	t.target = netip.AddrPort{} // for one that was just accepted
	pairs := make([]*pair, 0, len(t.pairs))
	for p := range t.pairs {
		pairs = append(pairs, p)
	}
	t.mu.Unlock()
	for _, p := range pairs {
		select {
		case <-p.ended:
			p.close(false)
		case <-over:
			p.close(true)
		}
	}
}

// pair is a client's connection and the one to the container.
type pair struct {
	port   *tcpPort
	client *net.TCPConn
	ctx    context.Context // of the dial
	cancel context.CancelFunc
	ended  chan struct{} // closed when the client has all that the container said

	mu        sync.Mutex
	closed    bool
	upEnded   bool         // the client has said all
	waiting   bool         // down waits for that
	container *net.TCPConn // nil: not connected yet
}

// run serves one client, from accept to close.
func (p *pair) run() {
	t := p.port
	defer func() {
		<-t.relay.slots
		t.relay.count.less(openConnections)
	}()
	t.mu.Lock()
	target := t.target
	t.pairs[p] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.pairs, p)
		t.mu.Unlock()
		p.close(false)
	}()
	if !p.connect(target) {
		t.relay.count.add(unreached, 1)
		p.close(true)
		close(p.ended)
		return
	}
	up := make(chan struct{})
	go func() {
		defer close(up)
		p.up()
	}()
	p.down()
	<-up
}

// connect reaches the container; false: the client is to be reset.
func (p *pair) connect(target netip.AddrPort) bool {
	defer p.cancel()
	if !target.IsValid() {
		return false
	}
	var d net.Dialer
	conn, err := d.DialContext(p.ctx, "tcp", target.String())
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		conn.Close()
		return false
	}
	p.container = conn.(*net.TCPConn)
	// Should this process be killed, both see a reset: an end would look as if all had been said.
	return errors.Join(p.client.SetLinger(0), p.container.SetLinger(0)) == nil
}

// up copies from the client to the container. A container that takes no more may still have much to say.
func (p *pair) up() {
	reading, err := p.stream(p.container, p.client, tcpIn)
	switch {
	case err == nil:
		_ = p.container.CloseWrite() // an error is down's to see
	case reading:
		p.close(true) // the client has reset, and so must we: an end would look as if it had said all
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upEnded = true
	if p.waiting {
		_ = p.container.SetReadDeadline(time.Unix(1, 0)) // a closed connection needs no waking
	}
}

// down copies from the container to the client, and then waits for the client's end or for the container's reset: a client
// may keep for ever a connection that nobody holds at the other end.
func (p *pair) down() {
	_, err := p.stream(p.client, p.container, tcpOut)
	if err == nil {
		err = p.client.CloseWrite()
	}
	if err != nil {
		p.close(true)
	}
	close(p.ended)
	p.mu.Lock()
	done := p.upEnded || p.closed
	p.waiting = !done
	p.mu.Unlock()
	if !done && awaitReset(p.container) {
		p.close(false)
	}
}

// close closes both connections, the first time that it is called. With reset their peers see that not all was said (see
// connect); without, the kernel goes on to deliver what was written.
func (p *pair) close(reset bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.cancel()
	for _, c := range []*net.TCPConn{p.client, p.container} {
		if c == nil {
			continue
		}
		linger := -1
		if reset {
			linger = 0
		}
		_ = c.SetLinger(linger) // a connection that was reset by its peer needs none
		c.Close()
	}
}

// stream copies until src's end, which is no error, and counts. reading tells whose error it is.
func (p *pair) stream(dst, src *net.TCPConn, bytes cell) (reading bool, err error) {
	raw, err := src.SyscallConn()
	if err != nil {
		return true, err
	}
	for {
		buf, n, err := readReady(raw)
		if err != nil || n == 0 {
			return true, err
		}
		n, err = dst.Write(buf[:n])
		tcpBuffers.Put(buf)
		p.port.relay.count.add(bytes, n)
		if err != nil {
			return false, err
		}
	}
}

// readReady waits for bytes and reads them into a buffer, which the caller gives back; n is 0 at the end, without a buffer.
func readReady(raw syscall.RawConn) (buf *[tcpBuffer]byte, n int, err error) {
	werr := raw.Read(func(fd uintptr) bool {
		buf = tcpBuffers.Get().(*[tcpBuffer]byte)
		for {
			n, err = unix.Read(int(fd), buf[:])
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if n > 0 {
			return true
		}
		tcpBuffers.Put(buf)
		buf = nil
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil && !errors.Is(werr, io.EOF) {
		if buf != nil {
			tcpBuffers.Put(buf)
		}
		return nil, 0, werr
	}
	return buf, max(n, 0), err
}

// awaitReset waits until a connection of which all was read is reset. False: the wait was ended.
func awaitReset(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd)}} // errors need no asking
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0 && fds[0].Revents&unix.POLLERR != 0
	}) == nil
}
