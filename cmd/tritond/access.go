package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/cluster"
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

// loginLink is a link to the page that logs its first user in as c.
func (d *daemon) loginLink(c auth.Caller) (string, error) {
	if d.cfg.HTTP == "" {
		return "", fmt.Errorf("there is no page to log in to: the daemon runs with --http \"\": %w", errdefs.ErrFailedPrecondition)
	}
	return d.access.LoginLink(d.pageURL(), c)
}

// web is what --http serves. Without a login: that the daemon lives, its login, the page's files, and numbers where only this
// machine can ask.
func (d *daemon) web(own *tritonapi.API) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", d.access.OpenOnLoopback(d.telemetry.Handler()))
	login := d.access.Handler()
	mux.Handle(auth.LoginPath, login)
	mux.Handle(auth.LogoutPath, login)
	mux.Handle(wire.Prefix, d.access.Require(own.Handler()))
	return mux, d.servePage(mux)
}
