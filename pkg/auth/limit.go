package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxFailures within failureWindow close logins from an address. A secret has 256 bits: this keeps the log and
	// etcd quiet, it is not what makes guessing hopeless.
	maxFailures   = 10
	failureWindow = time.Minute
	// maxAddresses bounds what is remembered; beyond it all further addresses share one count.
	maxAddresses = 4096
)

// limiter counts failed logins by address.
type limiter struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[string]failures
}

type failures struct {
	count int
	until time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, by: map[string]failures{}}
}

// wait is how long an address has to; 0: it may try.
func (l *limiter) wait(remote string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.by[l.key(remote)]
	if f.count < maxFailures {
		return 0
	}
	return max(0, f.until.Sub(l.now()))
}

func (l *limiter) failed(remote string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	key := l.key(remote)
	f := l.by[key]
	if !now.Before(f.until) {
		f = failures{until: now.Add(failureWindow)}
	}
	f.count++
	l.by[key] = f
}

// key is the address without its port, of IPv6 the /64 that one machine has to itself. mu is held.
func (l *limiter) key(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			host = p.String()
		}
	}
	if _, ok := l.by[host]; ok || len(l.by) < maxAddresses {
		return host
	}
	now := l.now()
	for k, f := range l.by {
		if !now.Before(f.until) {
			delete(l.by, k)
		}
	}
	if len(l.by) < maxAddresses {
		return host
	}
	return "" // everybody else
}
