package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// TenantHeader is how an operator acts for another tenant.
const TenantHeader = "X-Triton-Tenant"

// Require passes requests with a bearer token or the cookie of a login, with the Caller in the context. Others get 401, or
// 403 where a login is not enough, as JSON.
func (a *Authority) Require(next http.Handler) http.Handler { return a.serve(next, a.byLogin) }

// Local passes every request as the operator's: for sockets whose permissions are the login, and for --insecure-tcp. A
// browser is refused, so that no web page can use what its user may reach.
func (a *Authority) Local(name string, next http.Handler) http.Handler {
	return a.serve(next, func(r *http.Request) (Caller, error) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			return Caller{}, fmt.Errorf("browsers are not served on this address: %w", errdefs.ErrPermissionDenied)
		}
		return Caller{Tenant: triton.DefaultTenant, Operator: true, Name: name}, nil
	})
}

// serve finds out who calls and for whom, and ends the request when the credential ends before it does.
func (a *Authority) serve(next http.Handler, who func(*http.Request) (Caller, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := who(r)
		if err == nil {
			c, err = a.actFor(r, c)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		ctx := WithCaller(r.Context(), c)
		if c.id != "" {
			var stop func()
			ctx, stop = a.watch(ctx, c)
			defer stop()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// ErrEnded is the cause of the end of a context whose credential was revoked or has expired.
var ErrEnded = errors.New("the login has ended")

// watch ends the context when c stops being valid. No goroutine waits: a request is rarely longer than a recheck.
func (a *Authority) watch(ctx context.Context, c Caller) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	ready := make(chan struct{})
	timer = time.AfterFunc(a.cfg.Recheck, func() {
		<-ready
		if ctx.Err() != nil {
			return
		}
		if ok, err := a.Valid(ctx, c); err != nil {
			a.cfg.Log.Warn("a login could not be checked again", "name", c.Name, "err", err)
		} else if !ok {
			cancel(ErrEnded)
			return
		}
		if ctx.Err() == nil {
			timer.Reset(a.cfg.Recheck)
		}
	})
	close(ready)
	return ctx, func() {
		cancel(context.Canceled)
		timer.Stop()
	}
}

// actFor changes the tenant as the request asks, where the caller may.
func (a *Authority) actFor(r *http.Request, c Caller) (Caller, error) {
	values := r.Header.Values(TenantHeader)
	if len(values) == 0 {
		return c, nil
	}
	t := triton.Tenant(values[0])
	switch {
	case len(values) > 1:
		return Caller{}, fmt.Errorf("%s is given %d times: %w", TenantHeader, len(values), errdefs.ErrInvalidArgument)
	case t == c.Tenant:
		return c, nil
	case !c.Operator:
		return Caller{}, fmt.Errorf("%s: only an operator may act for another tenant: %w", TenantHeader, errdefs.ErrPermissionDenied)
	}
	if err := a.known(r.Context(), t); err != nil {
		return Caller{}, fmt.Errorf("%s: %w", TenantHeader, err)
	}
	c.Tenant = t
	return c, nil
}

// byLogin looks for a bearer token, then for a cookie.
func (a *Authority) byLogin(r *http.Request) (Caller, error) {
	if h := r.Header.Values("Authorization"); len(h) > 0 {
		id, err := parseBearer(h)
		if err != nil {
			return Caller{}, fmt.Errorf("token: %w: %w", err, errdefs.ErrUnauthenticated)
		}
		c, err := a.lookup(r.Context(), id, KindToken)
		return c.caller(), err
	}
	ck, err := r.Cookie(a.cookieName(r))
	if err != nil {
		return Caller{}, fmt.Errorf("log in first: %w", errdefs.ErrUnauthenticated)
	}
	id, err := parseSecret(sessionPrefix, ck.Value)
	if err != nil {
		return Caller{}, fmt.Errorf("login cookie: %w: %w", err, errdefs.ErrUnauthenticated)
	}
	c, err := a.lookup(r.Context(), id, KindSession)
	if err != nil {
		return Caller{}, err
	}
	return c.caller(), sameOrigin(r, changes(r))
}

// parseBearer reads an Authorization header.
func parseBearer(values []string) (id string, err error) {
	if len(values) != 1 {
		return "", fmt.Errorf("%d Authorization headers", len(values))
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errors.New("the Authorization header must be: Bearer TOKEN")
	}
	return parseSecret(tokenPrefix, strings.TrimSpace(text))
}

// changes reports whether a request may do more than read: by its method, or because it opens a websocket, which the
// browser's rules for reading answers do not hold for.
func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return r.Header.Get("Upgrade") != ""
	}
	return true
}

// sameOrigin refuses what a page of another origin sends. SameSite does not do that: another port of this machine is the
// same site. required: a request without an Origin is refused too; browsers send one whenever changes is true.
func sameOrigin(r *http.Request, required bool) error {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 && !required {
		return nil
	}
	if len(origins) == 1 {
		u, err := url.Parse(origins[0])
		// Behind a proxy that ends TLS the page's scheme is https and ours http: only the host is ours to compare.
		if err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) && (r.TLS == nil || u.Scheme == "https") {
			return nil
		}
	}
	return fmt.Errorf("requests of other web pages are not served (Origin %q, Host %q): %w", strings.Join(origins, ", "), r.Host, errdefs.ErrPermissionDenied)
}

// OpenOnLoopback is for what shows all tenants: it serves next without a login where the daemon's address is loopback and the request names it so: a page
// whose name was pointed at 127.0.0.1 names something else. Everywhere else an operator's login is needed.
func (a *Authority) OpenOnLoopback(next http.Handler) http.Handler {
	closed := a.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, _ := FromContext(r.Context()); !c.Operator {
			refuse(w, fmt.Errorf("%s is for operators only: %w", r.URL.Path, errdefs.ErrPermissionDenied))
			return
		}
		next.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if local != nil && loopback(local.String()) && loopback(r.Host) {
			next.ServeHTTP(w, r)
			return
		}
		closed.ServeHTTP(w, r)
	})
}

// loopback reports whether a host with or without port is this machine by its own name for itself.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}
