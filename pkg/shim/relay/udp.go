package relay

import (
	"container/list"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxFlows bounds the UDP clients of all ports of a Relay, a descriptor each. A newer client takes the place of the one
	// that was silent longest: where anyone can send, old clients are not worth more than new ones.
	maxFlows = 1024
	// flowIdle is how long a silent client is remembered, as by docker's proxy.
	flowIdle = 90 * time.Second
	// maxDatagram is what the length field of UDP can tell.
	maxDatagram = 64 << 10
)

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// udpPort is a bound socket. What comes from a client is sent on from a socket of that client's own, so that answers find
// their way back.
type udpPort struct {
	relay *Relay
	conn  *net.UDPConn
	raw   syscall.RawConn

	mu     sync.Mutex
	target netip.AddrPort
}

func (r *Relay) openUDP(p Port) (server, error) {
	c, err := net.FilePacketConn(p.Socket)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(errors.New("not a socket of UDP"), c.Close())
	}
	u := &udpPort{relay: r, conn: conn, target: p.Target}
	if u.raw, err = conn.SyscallConn(); err == nil && p.Host.Addr().Is6() {
		// Answers must come from the address that was asked: the socket may have many.
		var serr error
		err = u.raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) })
		err = errors.Join(err, serr)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r.running.Go(u.run)
	return u, nil
}

func (u *udpPort) retarget(to netip.AddrPort) {
	u.mu.Lock()
	changed := u.target != to
	u.target = to
	u.mu.Unlock()
	if changed {
		u.relay.flows.drop(u)
	}
}

func (u *udpPort) stop() { u.conn.Close() }

func (u *udpPort) end(<-chan struct{}) { u.relay.flows.drop(u) }

// client is who sent a datagram, and to which address of ours.
type client struct {
	port  *udpPort
	addr  [16]byte
	zone  uint32
	num   uint16
	local unix.Inet6Pktinfo
}

// run sends on what clients send, until the socket is closed.
func (u *udpPort) run() {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		buf, n, from, err := u.receive(oob)
		if err != nil {
			return // closed: nothing else ends a wait
		}
		if from != nil {
			u.forward(buf[:n], from)
		}
		datagrams.Put(buf)
	}
}

// receive waits for a datagram; from is nil for one of which nothing can be made.
func (u *udpPort) receive(oob []byte) (buf *[maxDatagram]byte, n int, from *client, err error) {
	werr := u.raw.Read(func(fd uintptr) bool {
		buf = datagrams.Get().(*[maxDatagram]byte)
		var oobn int
		var sa unix.Sockaddr
		n, oobn, _, sa, err = unix.Recvmsg(int(fd), buf[:], oob, 0)
		if err == nil {
			from = u.clientOf(sa, oob[:oobn])
			return true
		}
		datagrams.Put(buf)
		buf = nil
		return !errors.Is(err, unix.EAGAIN)
	})
	if werr != nil {
		return nil, 0, nil, werr
	}
	if err != nil { // a report of ICMP about an earlier answer, or no memory for this one
		return datagrams.Get().(*[maxDatagram]byte), 0, nil, nil
	}
	return buf, n, from, nil
}

func (u *udpPort) clientOf(sa unix.Sockaddr, oob []byte) *client {
	switch sa := sa.(type) {
	case *unix.SockaddrInet6:
		return &client{port: u, addr: sa.Addr, zone: sa.ZoneId, num: uint16(sa.Port), local: packetInfo(oob)}
	case *unix.SockaddrInet4:
		return &client{port: u, addr: netip.AddrFrom4(sa.Addr).As16(), num: uint16(sa.Port)}
	}
	return nil
}

// packetInfo is the address that a datagram was sent to, zero where the kernel does not tell.
func packetInfo(oob []byte) (info unix.Inet6Pktinfo) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return info
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			copy(info.Addr[:], m.Data)
			info.Ifindex = binary.NativeEndian.Uint32(m.Data[len(info.Addr):])
		}
	}
	return info
}

// forward sends a datagram on.
func (u *udpPort) forward(data []byte, from *client) {
	f := u.relay.flows.touch(*from)
	if f == nil {
		f = u.begin(from)
	}
	u.relay.count.sent(f != nil && send(f.raw, data, nil, nil), udpIn, len(data))
}

// begin makes a new client's flow; nil where it cannot.
func (u *udpPort) begin(from *client) *flow {
	u.mu.Lock() // over all of it: no flow to the old target begins after retarget has closed them
	defer u.mu.Unlock()
	if !u.target.IsValid() {
		return nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.target))
	if err != nil {
		return nil
	}
	f := &flow{client: *from, conn: conn}
	if f.raw, err = conn.SyscallConn(); err != nil || !u.relay.flows.add(f) {
		conn.Close()
		return nil
	}
	u.relay.running.Go(func() { u.answer(f) })
	return f
}

// send sends a datagram if the kernel has room for it. A report of ICMP about an earlier one (a container whose program
// does not listen yet) is taken off first.
func send(raw syscall.RawConn, data, oob []byte, to unix.Sockaddr) (sent bool) {
	_ = raw.Write(func(fd uintptr) bool {
		for range 2 {
			if _, err := unix.SendmsgN(int(fd), data, oob, to, unix.MSG_NOSIGNAL); err == nil {
				sent = true
				return true
			} else if !errors.Is(err, unix.ECONNREFUSED) {
				return true
			}
		}
		return true
	})
	return sent
}

// answer sends the container's datagrams back to a client until the flow is closed.
func (u *udpPort) answer(f *flow) {
	defer u.relay.flows.remove(f)
	to, oob := f.client.sockaddr(), f.client.source()
	for {
		var buf *[maxDatagram]byte
		var n int
		var err error
		werr := f.raw.Read(func(fd uintptr) bool {
			buf = datagrams.Get().(*[maxDatagram]byte)
			if n, err = unix.Read(int(fd), buf[:]); err == nil {
				return true
			}
			datagrams.Put(buf)
			buf = nil
			return !errors.Is(err, unix.EAGAIN)
		})
		if werr != nil {
			return
		}
		if err != nil {
			continue // a report of ICMP: the container may listen later
		}
		u.relay.flows.touch(f.client)
		u.relay.count.sent(send(u.raw, buf[:n], oob, to), udpOut, n)
		datagrams.Put(buf)
	}
}

// sockaddr is the client's address.
func (c *client) sockaddr() unix.Sockaddr {
	if a := netip.AddrFrom16(c.addr); a.Is4In6() {
		return &unix.SockaddrInet4{Addr: a.Unmap().As4(), Port: int(c.num)}
	}
	return &unix.SockaddrInet6{Addr: c.addr, ZoneId: c.zone, Port: int(c.num)}
}

// source is the control message that makes an answer come from the address that was asked.
func (c *client) source() []byte {
	if c.local == (unix.Inet6Pktinfo{}) {
		return nil
	}
	info := c.local
	if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
		info.Ifindex = 0 // routes decide, as for any other answer
	}
	return unix.PktInfo6(&info)
}

// flow is what is known of a client: the socket that stands for it.
type flow struct {
	client client
	conn   *net.UDPConn
	raw    syscall.RawConn
	used   time.Time     // guarded by flows.mu
	at     *list.Element // nil once it is out of the table
}

// flows is the table of clients, the one that was silent longest last.
type flows struct {
	most  int
	idle  time.Duration
	count *counters

	mu      sync.Mutex
	closed  bool
	by      map[client]*flow
	order   *list.List
	sweeper *time.Timer // runs while there are flows
}

func newFlows(most int, idle time.Duration, count *counters) *flows {
	return &flows{most: most, idle: idle, count: count, by: map[client]*flow{}, order: list.New()}
}

// touch finds a client's flow, which is in use.
func (t *flows) touch(c client) *flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.by[c]
	if f != nil {
		f.used = time.Now()
		t.order.MoveToFront(f.at)
	}
	return f
}

// add puts a new flow into the table, in the place of the oldest where it is full. False: the table is closed.
func (t *flows) add(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if len(t.by) >= t.most {
		t.count.add(evicted, 1)
		t.closeLocked(t.order.Back().Value.(*flow))
	}
	f.used = time.Now()
	f.at = t.order.PushFront(f)
	t.by[f.client] = f
	t.count.add(begun, 1)
	t.count.add(openFlows, 1)
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(t.idle/2, t.sweep)
	}
	return true
}

// sweep closes what was silent for too long.
func (t *flows) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.order.Len() > 0 {
		last := t.order.Back().Value.(*flow)
		if time.Since(last.used) < t.idle {
			break
		}
		t.closeLocked(last)
	}
	if t.sweeper = nil; t.order.Len() > 0 && !t.closed {
		t.sweeper = time.AfterFunc(t.idle/2, t.sweep)
	}
}

// closeLocked takes a flow out and ends its goroutine.
func (t *flows) closeLocked(f *flow) {
	if f.at == nil {
		return
	}
	t.order.Remove(f.at)
	f.at = nil
	delete(t.by, f.client)
	t.count.less(openFlows)
	f.conn.Close()
}

func (t *flows) remove(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeLocked(f)
}

// drop closes the flows of one port.
func (t *flows) drop(u *udpPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, f := range t.by {
		if c.port == u {
			t.closeLocked(f)
		}
	}
}

func (t *flows) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.sweeper != nil {
		t.sweeper.Stop()
	}
	for _, f := range t.by {
		t.closeLocked(f)
	}
}
