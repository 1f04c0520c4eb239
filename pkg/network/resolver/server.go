package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxForwarded bounds the questions that wait for other servers. One more is answered with a failure, and counted.
	maxForwarded = 512
	// patience is how long one server is waited for; clients give up after five seconds.
	patience = 2 * time.Second
	port     = 53
)

// Server listens on the gateways of networks.
type Server struct {
	src Source
	log *slog.Logger

	forwarding chan struct{}
	refused    atomic.Uint64

	mu      sync.Mutex
	at      map[netip.Addr]*listener
	serving sync.WaitGroup
}

type listener struct {
	addr     netip.AddrPort
	udp, tcp *dns.Server
}

// New returns a Server that listens nowhere yet.
func New(src Source, log *slog.Logger) *Server {
	return &Server{src: src, log: log, forwarding: make(chan struct{}, maxForwarded), at: map[netip.Addr]*listener{}}
}

// Refused counts the questions that were not passed on because too many were under way.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Listen serves at an address of this machine and returns with which port: 53, or another one where something else has
// that. Listening twice is no error.
func (s *Server) Listen(addr netip.Addr) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.at[addr]; l != nil {
		return l.addr, nil
	}
	l, err := s.listen(netip.AddrPortFrom(addr, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = s.listen(netip.AddrPortFrom(addr, 0))
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen for questions on %s: %w", addr, err)
	}
	s.at[addr] = l
	for _, srv := range []*dns.Server{l.udp, l.tcp} {
		s.serving.Go(func() {
			if err := srv.ActivateAndServe(); err != nil {
				s.log.Error("names are not served any more", "address", l.addr, "err", err)
			}
		})
	}
	return l.addr, nil
}

// listen opens both sockets on one port. The server is ready when it returns: the kernel keeps what comes.
func (s *Server) listen(at netip.AddrPort) (*listener, error) {
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	bound := netip.AddrPortFrom(at.Addr(), uint16(udp.LocalAddr().(*net.UDPAddr).Port))
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(bound))
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	h := dns.HandlerFunc(s.serve)
	return &listener{addr: bound, udp: &dns.Server{PacketConn: udp, Handler: h}, tcp: &dns.Server{Listener: tcp, Handler: h}}, nil
}

// Unlisten stops serving at an address.
func (s *Server) Unlisten(addr netip.Addr) error {
	s.mu.Lock()
	l := s.at[addr]
	delete(s.at, addr)
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.close()
}

// close also closes the sockets: a server that has not yet begun to serve cannot be shut down.
func (l *listener) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, srv := range []*dns.Server{l.udp, l.tcp} {
		_ = srv.ShutdownContext(ctx) // questions under way are cut off
	}
	return errors.Join(ignoreClosed(l.udp.PacketConn.Close()), ignoreClosed(l.tcp.Listener.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Close stops serving everywhere and waits for it.
func (s *Server) Close() error {
	s.mu.Lock()
	all := s.at
	s.at = map[netip.Addr]*listener{}
	s.mu.Unlock()
	var errs []error
	for _, l := range all {
		errs = append(errs, l.close())
	}
	s.serving.Wait()
	return errors.Join(errs...)
}

// serve answers one question.
func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	client := clientOf(w.RemoteAddr())
	m := answer(s.src, client, q)
	if m == nil {
		m = s.forward(client, q, w.RemoteAddr().Network())
	}
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		m.Truncate(size)
	}
	if err := w.WriteMsg(m); err != nil {
		s.log.Debug("answer not sent", "client", client, "err", err)
	}
}

func clientOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// forward asks one server after the other.
func (s *Server) forward(client netip.Addr, q *dns.Msg, network string) *dns.Msg {
	servers := s.src.Upstream(client)
	if len(servers) == 0 {
		return reply(q, dns.RcodeServerFailure)
	}
	select {
	case s.forwarding <- struct{}{}:
		defer func() { <-s.forwarding }()
	default:
		s.refused.Add(1)
		return reply(q, dns.RcodeServerFailure)
	}
	c := &dns.Client{Net: network, Timeout: patience, UDPSize: dns.MaxMsgSize}
	const tries = 3 // as resolv.conf allows
	for _, server := range servers[:min(len(servers), tries)] {
		m, _, err := c.Exchange(q, server.String())
		if err == nil && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
			m.Id = q.Id
			return m
		}
	}
	return reply(q, dns.RcodeServerFailure)
}
