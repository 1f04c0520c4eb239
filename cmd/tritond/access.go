package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/journal"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/throttle"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// credentials is the part of the agreed bytes that pkg/auth keeps.
type credentials struct{ c *cluster.Cluster }

var _ auth.Store = credentials{}

func (s credentials) Get(ctx context.Context, key string) ([]byte, error) {
	kv, err := s.c.Get(ctx, key)
	return kv.Value, err
}

func (s credentials) List(ctx context.Context, prefix string) (keys []string, values [][]byte, err error) {
	kvs, _, err := s.c.List(ctx, prefix)
	for _, kv := range kvs {
		keys, values = append(keys, kv.Key), append(values, kv.Value)
	}
	return keys, values, err
}

func (s credentials) Create(ctx context.Context, key string, value []byte) error {
	_, err := s.c.Create(ctx, key, value)
	return err
}

func (s credentials) Delete(ctx context.Context, key string) error { return s.c.Delete(ctx, key, 0) }

// caller is whom the middleware of the listener found.
func caller(r *http.Request) (auth.Caller, error) {
	if c, ok := auth.FromContext(r.Context()); ok {
		return c, nil
	}
	return auth.Caller{}, fmt.Errorf("no login: %w", errdefs.ErrUnauthenticated)
}

// guard opens one -H and puts in front of server what says who calls there.
func (d *daemon) guard(h string, server *http.Server, conns *throttle.Connections) (net.Listener, error) {
	network, address := splitHost(h)
	l, err := listenHost(h)
	if err != nil {
		return nil, err
	}
	switch {
	case network == "unix":
		server.Handler = d.access.Local("console", server.Handler)
	case d.cfg.InsecureTCP:
		d.log.Warn("everyone who can connect is root on this machine: --insecure-tcp", "address", address)
		server.Handler = d.access.Local("insecure-tcp", server.Handler)
	default:
		server.Handler = conns.Handler(d.access.Certificates(server.Handler))
		cfg, err := d.ca.ServerTLS(d.cfg.tlsAddresses(), true)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("listen on -H %s: %w", h, err)
		}
		return conns.Listener(l, cfg, holder), nil
	}
	return l, nil
}

// listenWeb opens --http; what leaves the machine is TLS.
func (d *daemon) listenWeb() (net.Listener, error) {
	l, err := net.Listen("tcp", d.cfg.HTTP)
	if err != nil || !d.cfg.webTLS() {
		return l, err
	}
	cfg, err := d.ca.ServerTLS(d.cfg.tlsAddresses(), false)
	if err != nil {
		l.Close()
		return nil, err
	}
	return tls.NewListener(l, cfg), nil
}

// webTLS reports whether --http is not for this machine alone.
func (c *config) webTLS() bool {
	host, _, err := net.SplitHostPort(c.HTTP)
	if err != nil || host == "localhost" {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err != nil || !a.IsLoopback()
}

// tlsAddresses are all that one certificate has to name.
func (c *config) tlsAddresses() []string {
	var out []string
	for _, h := range c.Hosts {
		if network, address := splitHost(h); network == "tcp" && !c.InsecureTCP {
			out = append(out, address)
		}
	}
	if c.HTTP != "" && c.webTLS() {
		out = append(out, c.HTTP)
	}
	return out
}

func (d *daemon) sign(ctx context.Context, publicKey []byte, tenant triton.Tenant, role auth.Role, name string, life time.Duration) (
	certificate, ca []byte, c auth.Credential, err error) {
	certificate, c, err = d.access.Sign(ctx, d.ca, publicKey, tenant, role, name, life)
	return certificate, d.ca.PEM(), c, err
}

// tenants is the authority; a tenant that it removes leaves neither events nor its default network behind.
type tenants struct {
	*auth.Authority
	journal *journal.Set
	node    *node.Node
}

// AddTenant implements tritonapi.Access. A former tenant of the same name may have left events, if the daemon was killed just then or one of
// its requests came late.
func (t tenants) AddTenant(ctx context.Context, name triton.Tenant) (auth.Tenant, error) {
	all, err := t.Tenants(ctx)
	if err != nil {
		return auth.Tenant{}, err
	}
	if name.Validate() == nil && !slices.ContainsFunc(all, func(have auth.Tenant) bool { return have.Name == name }) {
		if err := t.journal.Forget(name); err != nil {
			return auth.Tenant{}, err
		}
	}
	return t.Authority.AddTenant(ctx, name)
}

// RemoveTenant implements tritonapi.Access.
func (t tenants) RemoveTenant(ctx context.Context, name triton.Tenant, uses func(context.Context, triton.Tenant) ([]string, error)) error {
	if err := t.Authority.RemoveTenant(ctx, name, uses); err != nil {
		return err
	}
	return errors.Join(t.journal.Forget(name), t.node.DropDefaultNetwork(ctx, name))
}

// tenantUses counts what keeps a tenant from being removed.
func (d *daemon) tenantUses(ctx context.Context, tenant triton.Tenant) ([]string, error) {
	containers, err := d.node.ListContainers(ctx, tenant)
	if err != nil {
		return nil, err
	}
	images, err := d.images.List(ctx, tenant)
	if err != nil {
		return nil, err
	}
	networks, err := d.node.ListNetworks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	volumes, err := d.node.ListVolumes(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range []struct {
		n    int
		what string
	}{{len(containers), "containers"}, {len(images), "images"}, {len(networks), "networks"}, {len(volumes), "volumes"}} {
		if o.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", o.n, o.what))
		}
	}
	return out, nil
}

// loginLink is a link to the page that logs its first user in as c.
func (d *daemon) loginLink(c auth.Caller) (string, error) {
	if d.cfg.HTTP == "" {
		return "", fmt.Errorf("there is no page to log in to: the daemon runs with --http \"\": %w", errdefs.ErrFailedPrecondition)
	}
	return d.access.LoginLink(d.pageURL(), c)
}

// web is what --http serves. Without a login: that the daemon lives, its login, the page's files, and numbers where only this
// machine can ask.
func (d *daemon) web(own *tritonapi.API, turns *throttle.Throttle) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", d.access.OpenOnLoopback(d.telemetry.Handler()))
	login := d.access.Handler()
	mux.Handle(auth.LoginPath, login)
	mux.Handle(auth.LogoutPath, login)
	mux.Handle(wire.Prefix, d.access.Require(turns.Handler(own.Handler(), payer, ownEffort)))
	return mux, d.servePage(mux, turns)
}
