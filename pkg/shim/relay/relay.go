package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Port is a port of the host and where it leads.
type Port struct {
	Proto  string         // triton.ProtoTCP or ProtoUDP
	Host   netip.AddrPort // what Socket is bound to: with Proto, it names the port
	Target netip.AddrPort // the zero AddrPort: nowhere; who connects is refused
	Socket *os.File       // stays the caller's; of TCP, it listens
}

const (
	// maxConnections bounds the TCP connections of all ports of a Relay: two descriptors each, and two buffers of tcpBuffer
	// while bytes are on their way, 64 MiB in the worst case. Of those who come then, each port accepts one, which waits; others
	// wait in the kernel's queue.
	maxConnections = 1024
	// backlog is how many connections may wait to be accepted: what the kernel bounds it to by itself (net.core.somaxconn).
	backlog = 4096
	// dialBound is how long a container's own network may take to answer; its kernel answers for a port without a program.
	dialBound = 10 * time.Second
	// acceptPause follows an accept that failed for want of descriptors or memory.
	acceptPause = 100 * time.Millisecond
)

// Relay serves the ports of one container. The zero Relay is not of use: New makes one.
type Relay struct {
	log   *slog.Logger
	slots chan struct{} // a token is put in for each connection of TCP
	quit  chan struct{} // closed by Close
	flows *flows
	count *counters

	mu      sync.Mutex
	closed  bool
	ports   map[name]server
	running sync.WaitGroup
}

// name tells ports apart.
type name struct {
	proto string
	host  netip.AddrPort
}

// server is a port that is served.
type server interface {
	// retarget leads to another address; whoever is connected to the old one is cut off.
	retarget(to netip.AddrPort)
	// stop takes no more clients; those connected stay.
	stop()
	// end cuts off clients once the container has told them all, or when the time is over.
	end(over <-chan struct{})
}

// New makes a Relay without ports. Close must be called. Its counters are in the file at path, for ReadStats, or nowhere else
// where path is empty or cannot be written.
func New(log *slog.Logger, path string) *Relay {
	count := new(counters)
	if path != "" {
		shared, err := openCounters(path)
		if err != nil {
			log.Warn("the counters of published ports cannot be read from outside", "err", err)
		} else {
			count = shared
		}
	}
	return &Relay{
		log: log, slots: make(chan struct{}, maxConnections), quit: make(chan struct{}), flows: newFlows(maxFlows, flowIdle, count), count: count,
		ports: map[name]server{},
	}
}

// Serve serves further ports, and leads those that it serves already to their new targets. The error names the ports that
// cannot be served; the others are.
func (r *Relay) Serve(ports []Port) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return net.ErrClosed
	}
	var errs []error
	for _, p := range ports {
		id := name{p.Proto, p.Host}
		if s := r.ports[id]; s != nil {
			s.retarget(p.Target)
			continue
		}
		s, err := r.open(p)
		if err != nil {
			errs = append(errs, fmt.Errorf("serve %s/%s: %w", p.Host, p.Proto, err))
			continue
		}
		r.ports[id] = s
	}
	return errors.Join(errs...)
}

func (r *Relay) open(p Port) (server, error) {
	switch p.Proto {
	case triton.ProtoTCP:
		return r.openTCP(p)
	case triton.ProtoUDP:
		return r.openUDP(p)
	}
	return nil, fmt.Errorf("protocol %q: must be tcp or udp", p.Proto)
}

// Close ends all. Nobody is accepted any more; what the container has sent already may reach its clients for as long as
// patience, after which they are reset. Serve fails from then on.
func (r *Relay) Close(patience time.Duration) {
	r.mu.Lock()
	already := r.closed
	r.closed = true
	ports := r.ports
	r.ports = nil
	r.mu.Unlock()
	if already {
		return
	}
	close(r.quit)
	for _, p := range ports {
		p.stop()
	}
	over := make(chan struct{})
	timer := time.AfterFunc(patience, func() { close(over) })
	for _, p := range ports {
		p.end(over)
	}
	timer.Stop()
	r.flows.close()
	r.running.Wait()
}

// Stats reads the counters.
func (r *Relay) Stats() Stats { return r.count.stats() }
