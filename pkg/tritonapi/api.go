package tritonapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Node is what the paths about containers need.
type Node interface {
	Observe(ctx context.Context, tenant triton.Tenant, ref string) (node.Observed, error)
}

// Config is what the API shows.
type Config struct {
	Version wire.Version
	Node    Node
	Probes  func() wire.Probes
	Vars    func() wire.Vars
	Tenant  func(*http.Request) (triton.Tenant, error)
	Log     *slog.Logger
}

// API serves /triton/v1.
type API struct {
	cfg Config
}

// New returns an API that shows cfg.
func New(cfg Config) *API { return &API{cfg} }

// Operator serves every path; the caller has made sure that the client may see what it asks for.
func (a *API) Operator() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.Prefix+"version", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, a.cfg.Version) })
	mux.HandleFunc("GET "+wire.Prefix+"probes", func(w http.ResponseWriter, _ *http.Request) { a.reply(w, a.cfg.Probes()) })
	mux.HandleFunc("GET "+wire.Prefix+"containers/{ref}/observed", a.observed)
	mux.Handle("GET "+wire.Prefix+"debug/vars", a.Vars())
	mux.HandleFunc(wire.Prefix, func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, http.StatusNotFound, "page not found") })
	return mux
}

// Vars serves the daemon's own size.
func (a *API) Vars() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { a.reply(w, a.cfg.Vars()) })
}

func (a *API) observed(w http.ResponseWriter, r *http.Request) {
	tenant, err := a.cfg.Tenant(r)
	if err != nil {
		a.refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	o, err := a.cfg.Node.Observe(r.Context(), tenant, r.PathValue("ref"))
	switch {
	case errdefs.IsNotFound(err):
		a.refuse(w, http.StatusNotFound, err.Error())
	case errdefs.IsInvalidArgument(err):
		a.refuse(w, http.StatusBadRequest, err.Error())
	case err != nil:
		a.refuse(w, http.StatusInternalServerError, err.Error())
	default:
		a.reply(w, observedOf(o))
	}
}

func (a *API) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// refuse answers in the form of the Docker API, so that one client understands both.
func (a *API) refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	a.reply(w, struct {
		Message string `json:"message"`
	}{message})
}

// observedOf turns the kernel's numbers into what is shown.
func observedOf(o node.Observed) wire.Observed {
	t := o.Totals
	out := wire.Observed{
		ID: o.Key.ID, Name: o.Name, Image: o.Image, Run: o.Run, Running: o.Running, CgroupID: o.CgroupID,
		First: t.First, Last: t.Last, Syscalls: make(map[string]wire.Syscall, len(t.Syscalls)), RunQueue: latencyOf(t.RunQueue),
		Execs: t.Execs, Exits: t.Exits, FatalSignals: t.FatalSignals, OOMKills: t.OOMKills,
		CPUSeconds: float64(t.CPUNs) / 1e9, Dropped: t.Dropped.Total(),
	}
	for nr, s := range t.Syscalls {
		l := latencyOf(s.Durations)
		l.Count = s.Count
		out.Syscalls[telemetry.SyscallName(nr)] = wire.Syscall{Number: nr, Latency: l, Errors: s.Errors, Untimed: s.Untimed}
	}
	return out
}

// latencyOf summarizes h; an empty one has no quantiles.
func latencyOf(h triton.Histogram) wire.Latency {
	l := wire.Latency{Count: h.Count(), Sum: float64(h.SumNs) / 1e9, P50: -1, P99: -1}
	if l.Count > 0 {
		l.P50, l.P99 = h.Quantile(0.5).Seconds(), h.Quantile(0.99).Seconds()
	}
	return l
}
