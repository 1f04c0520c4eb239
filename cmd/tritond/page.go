package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/throttle"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/web"
)

// servePage adds the page's files and, for who is logged in, its sockets to mux.
func (d *daemon) servePage(mux *http.ServeMux, turns *throttle.Throttle) error {
	files, err := web.Handler()
	if err != nil {
		return err
	}
	d.page = dashboard.New(dashboard.Config{
		Version: version, Boot: fmt.Sprintf("%s-%d", d.cfg.Instance, d.roots.generation), Node: d.static.Name,
		Containers: d.node, Telemetry: d.telemetry, Events: d.journal, Terminals: terminals{d.node},
		Caller: d.viewer, Missing: d.missingProbes, Level: d.pageLevel, Log: d.log.With("part", "page"),
	})
	if err := d.telemetry.Register(pageMetrics(d.page)...); err != nil {
		return err
	}
	sockets := d.access.Require(turns.Handler(d.page.Handler(), payer, ownEffort))
	mux.Handle(dashboard.Path, sockets)
	mux.Handle(dashboard.TerminalPath, sockets)
	mux.Handle("/", files)
	return nil
}

// pageLevel is what the page says of the level.
func (d *daemon) pageLevel() dashboard.Level {
	l := dashboard.Level{Level: string(d.probes.Level())}
	if s, ok := d.probes.Stepping(); ok && s.Steps > 0 {
		l.Why, l.AtMs = s.Last.Why, s.Last.At.UnixMilli()
	}
	return l
}

// levelStepped is told when the level changed by itself. The page is there before the probes run.
func (d *daemon) levelStepped(probes.Step) {
	if d.page != nil {
		d.page.LevelChanged()
	}
}

// viewer is whom the middleware found, as long as the login is good: an open socket asks again.
func (d *daemon) viewer(r *http.Request) (dashboard.Caller, error) {
	c, err := caller(r)
	if err != nil {
		return dashboard.Caller{}, err
	}
	switch ok, err := d.access.Valid(r.Context(), c); {
	case err != nil:
		return dashboard.Caller{}, err
	case !ok:
		return dashboard.Caller{}, fmt.Errorf("the login has ended: %w", errdefs.ErrUnauthenticated)
	}
	return dashboard.Caller{Name: c.Name, Tenant: c.Tenant, Exec: true, Operator: c.Operator, Ambient: c.Cookie}, nil
}

// terminals gives the page the node's execs.
type terminals struct{ *node.Node }

// AttachExec implements dashboard.Terminals.
func (t terminals) AttachExec(ctx context.Context, key triton.ExecKey, size [2]uint) (dashboard.Terminal, error) {
	return t.Node.AttachExec(ctx, key, size)
}
