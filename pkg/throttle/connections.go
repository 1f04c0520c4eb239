package throttle

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

const (
	// told is how many connections beyond the bound are open at a time to be told so; others are closed when the client has shown its certificate.
	told = 64
	// tell is how long one of those has to make a request.
	tell = 5 * time.Second
)

// Connections bounds how many connections the clients of one tenant have open, idle ones and those that a handler has taken over too. Its methods
// may be called from any goroutine.
type Connections struct {
	most int
	tell time.Duration

	mu      sync.Mutex
	tenants map[triton.Tenant]*connections // never forgotten, as a Throttle's
}

// connections are a tenant's; beyond are those of open that are there to be told.
type connections struct {
	open, beyond int
	refused      uint64
}

// NewConnections returns one that lets a tenant have so many.
func NewConnections(most int) *Connections {
	return &Connections{most: most, tell: tell, tenants: map[triton.Tenant]*connections{}}
}

// Listener accepts the TLS connections of a listener of TCP. cfg must ask for a certificate and verify it; whose tells the tenant of one, false: it is not
// bounded; an error: it lets nobody in. A connection is counted from when the client has shown its certificate, before it asks for anything.
func (c *Connections) Listener(l net.Listener, cfg *tls.Config, whose func(*x509.Certificate) (triton.Tenant, bool, error)) net.Listener {
	cfg = cfg.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		conn, ok := hello.Conn.(*connection)
		if !ok {
			return nil, fmt.Errorf("a connection is a %T", hello.Conn) // accept made it
		}
		own := cfg.Clone()
		own.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.VerifiedChains) == 0 {
				return errors.New("client certificate needed")
			}
			tenant, bounded, err := whose(state.VerifiedChains[0][0])
			if err != nil || !bounded {
				return err
			}
			return c.opened(conn, tenant)
		}
		return own, nil
	}
	return tls.NewListener(accepted{l}, cfg)
}

// opened counts a connection whose client is known now. An error: it is closed.
func (c *Connections) opened(conn *connection, name triton.Tenant) error {
	n, beyond, ok := c.add(name)
	if !ok {
		conn.TCPConn.Close() // before TLS says that the certificate is bad
		return c.full(name)
	}
	hurry := func() bool { return true }
	if beyond {
		conn.refusal.Store(&refusal{c.full(name)})
		hurry = time.AfterFunc(c.tell, func() { conn.Close() }).Stop
	}
	conn.whenClosed(func() {
		hurry()
		c.mu.Lock()
		defer c.mu.Unlock()
		n.open--
		if beyond {
			n.beyond--
		}
	})
	return nil
}

// add adds a connection to a tenant's. beyond: it is there to be told so; ok is false where it is not even for that.
func (c *Connections) add(name triton.Tenant) (n *connections, beyond, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = c.tenants[name]
	if n == nil {
		n = &connections{}
		c.tenants[name] = n
	}
	if n.open-n.beyond >= c.most {
		n.refused++
		if n.beyond == told {
			return n, true, false
		}
		n.beyond++
		beyond = true
	}
	n.open++
	return n, beyond, true
}

func (c *Connections) full(name triton.Tenant) error {
	return fmt.Errorf("tenant %s has %d connections open already, close some: %w", name, c.most, errdefs.ErrResourceExhausted)
}

// Handler answers what is asked on connections that are beyond the bound with 429, and closes them. The server must have ConnContext.
func (c *Connections) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(socketKey{}).(*connection); ok {
			if beyond := conn.refusal.Load(); beyond != nil {
				w.Header().Set("Connection", "close")
				refuse(w, beyond.error)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ConnectionStats are a tenant's connections.
type ConnectionStats struct {
	Open    int    // now
	Refused uint64 // were beyond the bound
}

// Stats returns the numbers of each tenant whose clients have connected.
func (c *Connections) Stats() map[triton.Tenant]ConnectionStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[triton.Tenant]ConnectionStats, len(c.tenants))
	for name, n := range c.tenants {
		all[name] = ConnectionStats{Open: n.open, Refused: n.refused}
	}
	return all
}

// accepted is a listener of TCP.
type accepted struct{ net.Listener }

// Accept makes a connection that can be counted.
func (l accepted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection of %s is a %T", l.Addr(), conn), conn.Close())
	}
	return &connection{TCPConn: socket}, nil
}

// connection is one below TLS.
type connection struct {
	*net.TCPConn
	refusal atomic.Pointer[refusal] // of what is asked on it

	mu      sync.Mutex
	closed  bool
	closing func() // nil: it is not counted
}

type refusal struct{ error }

// whenClosed has f called when the connection is closed; at once if it is.
func (c *connection) whenClosed(f func()) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.closing = f
	}
	c.mu.Unlock()
	if closed {
		f()
	}
}

// Close ends the connection's being counted as well.
func (c *connection) Close() error {
	c.mu.Lock()
	closing := c.closing
	c.closing, c.closed = nil, true
	c.mu.Unlock()
	if closing != nil {
		closing()
	}
	return c.TCPConn.Close()
}
