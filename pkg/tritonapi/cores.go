package tritonapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Cores is what the paths about core dumps need.
type Cores interface {
	List(tenant triton.Tenant, operator bool) (records []*coredump.Record, damaged int, err error)
	Get(tenant triton.Tenant, ref string, operator bool) (*coredump.Record, error)
	Remove(tenant triton.Tenant, ref string, operator bool) error
	OpenMini(r *coredump.Record) (*os.File, error)
	OpenCore(r *coredump.Record) (*coredump.Core, error)
	OpenBundle(r *coredump.Record) (*coredump.Bundle, error)
}

// Stacks is what the paths about the stacks of crashes need.
type Stacks interface {
	Backtrace(ctx context.Context, r *coredump.Record) (*backtrace.Result, error)
}

func coreRoutes() []route {
	one := "GET " + wire.CoresPath + "/{dump}"
	return []route{
		{"GET " + wire.CoresPath, forTenants, (*API).coreList},
		{"DELETE " + wire.CoresPath + "/{dump}", forTenants, (*API).coreRemove},
		{one, forTenants, core((*API).coreShow)},
		{"POST " + wire.Prefix + "containers/{ref}/snapshot", forTenants, (*API).snapshot},
		{one + "/backtrace", forTenants, core((*API).backtrace)},
		{one + "/core", forTenants, core(func(a *API, w http.ResponseWriter, q *http.Request, r *coredump.Record) error {
			c, err := a.cfg.Cores.OpenCore(r)
			if err != nil {
				return err
			}
			defer c.Close()
			serveCore(w, q, r, "core", c)
			return nil
		})},
		{one + "/bundle", forTenants, core((*API).bundle)},
		{one + "/mini", forTenants, core(func(a *API, w http.ResponseWriter, q *http.Request, r *coredump.Record) error {
			f, err := a.cfg.Cores.OpenMini(r)
			if err != nil {
				return err
			}
			defer f.Close()
			serveCore(w, q, r, "mini", f)
			return nil
		})},
	}
}

func (a *API) bundle(w http.ResponseWriter, q *http.Request, r *coredump.Record) error {
	b, err := a.cfg.Cores.OpenBundle(r)
	if err != nil {
		return err
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("ETag", `"`+b.Tag+`"`)
	http.ServeContent(w, q, "", time.Time{}, b)
	return nil
}

// coreShow answers with the record and, where the run that crashed has ended abnormally since, with that end.
func (a *API) coreShow(w http.ResponseWriter, _ *http.Request, r *coredump.Record) error {
	out := struct {
		*coredump.Record
		Death *wire.Death `json:"death,omitempty"`
	}{Record: r}
	d, err := a.cfg.Deaths.Get(r.Container.Tenant, death.ID(r.Container, r.Run))
	switch {
	case err == nil:
		short := deathOf(d)
		out.Death = &short
	case !errdefs.IsNotFound(err):
		return err
	}
	a.reply(w, out)
	return nil
}

// serveCore answers ranges and conditions too: a dump never changes once it is complete.
func serveCore(w http.ResponseWriter, q *http.Request, r *coredump.Record, kind string, content io.ReadSeeker) {
	w.Header().Set("Content-Type", "application/x-core")
	w.Header().Set("ETag", `"`+r.ID+"-"+kind+"-"+r.Body+`"`)
	http.ServeContent(w, q, "", time.Time{}, content)
}

// backtrace answers with the stacks, which are read if they were not yet.
func (a *API) backtrace(w http.ResponseWriter, q *http.Request, r *coredump.Record) error {
	b, err := a.cfg.Stacks.Backtrace(q.Context(), r)
	if err != nil {
		return err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", fmt.Sprintf(`"%s-backtrace-%d-%x"`, r.ID, b.Version, sha256.Sum256(text)))
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(text))
	return nil
}

// frames are the functions on a dump's stacks, as far as they were read.
func (a *API) frames(ctx context.Context, r *coredump.Record) []string {
	if r.Analysis == nil || r.Analysis.Error != "" {
		return nil
	}
	b, err := a.cfg.Stacks.Backtrace(ctx, r)
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range b.Threads {
		for _, f := range t.Frames {
			names = append(names, f.Func)
		}
		for _, f := range t.Python {
			names = append(names, f.Func)
		}
	}
	return names
}

func (a *API) coreList(w http.ResponseWriter, req *http.Request, c auth.Caller) {
	query, err := coredump.ParseQuery(req.URL.Query().Get("query"))
	if err != nil {
		a.fail(w, err)
		return
	}
	records, damaged, err := a.cfg.Cores.List(c.Tenant, c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	list := wire.CoreList{Cores: []wire.Core{}, Damaged: damaged}
	now := time.Now()
	for _, r := range records {
		if query.Holds(r, now, func() []string { return a.frames(req.Context(), r) }) {
			list.Cores = append(list.Cores, coreOf(r))
		}
	}
	a.reply(w, list)
}

func coreOf(r *coredump.Record) wire.Core {
	k := wire.Core{
		ID: r.ID, Kind: r.Kind, Pause: r.Pause, Container: r.Container.ID, Name: r.Name, Image: r.Image, At: r.At,
		Signal: r.Signal, Note: r.Note, Place: r.Place, Comm: r.Comm,
		Body: r.Body, Cut: r.Cut, MemoryBytes: r.MemoryBytes, StoredBytes: r.StoredBytes, ThreadCount: len(r.Threads),
	}
	if r.Analysis != nil {
		k.Group, k.Top = r.Analysis.Group, r.Analysis.Top
	}
	return k
}

// snapshot takes a core of a process that goes on. It has the parameters mini, pid and max-pause.
func (a *API) snapshot(w http.ResponseWriter, q *http.Request, c auth.Caller) {
	o, pid, err := snapshotOptions(q.URL.Query())
	if err != nil {
		a.fail(w, err)
		return
	}
	o.Operator = c.Operator
	sub, host, err := a.cfg.Node.LiveProcess(q.Context(), c.Tenant, q.PathValue("ref"), pid)
	if err != nil {
		a.fail(w, err)
		return
	}
	r, err := a.cfg.Snapshot(q.Context(), sub, host, o)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, coreOf(r))
}

// snapshotOptions refuses what it does not know.
func snapshotOptions(query url.Values) (o coredump.SnapshotOptions, pid int, err error) {
	pid = 1
	for name, values := range query {
		value := values[len(values)-1]
		switch name {
		case "mini":
			o.Mini, err = strconv.ParseBool(value)
		case "pid":
			if pid, err = strconv.Atoi(value); err == nil && pid < 1 {
				err = errors.New("must be 1 or more")
			}
		case "max-pause":
			if o.MaxPause, err = time.ParseDuration(value); err == nil && (o.MaxPause <= 0 || o.MaxPause > maxMaxPause) {
				err = fmt.Errorf("must be more than nothing and at most %s", maxMaxPause)
			}
		default:
			err = errors.New("unknown parameter")
		}
		if err != nil {
			return o, 0, fmt.Errorf("%s=%s: %w: %w", name, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return o, pid, nil
}

// maxMaxPause bounds how long a client may make a process stand.
const maxMaxPause = 5 * time.Minute

// core makes the handler that finds the record of a path for serve.
func core(serve func(*API, http.ResponseWriter, *http.Request, *coredump.Record) error) func(*API, http.ResponseWriter, *http.Request, auth.Caller) {
	return func(a *API, w http.ResponseWriter, q *http.Request, c auth.Caller) {
		r, err := a.cfg.Cores.Get(c.Tenant, q.PathValue("dump"), c.Operator)
		if err == nil {
			err = serve(a, w, q, r)
		}
		if err != nil {
			a.fail(w, err)
		}
	}
}

func (a *API) coreRemove(w http.ResponseWriter, q *http.Request, c auth.Caller) {
	if err := a.cfg.Cores.Remove(c.Tenant, q.PathValue("dump"), c.Operator); err != nil {
		a.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
