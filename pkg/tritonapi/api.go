package tritonapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Node is what the paths about containers need.
type Node interface {
	Observe(ctx context.Context, tenant triton.Tenant, ref string) (node.Observed, error)
	Placement(ctx context.Context, tenant triton.Tenant, ref string) (node.Placed, error)
	LiveProcess(ctx context.Context, tenant triton.Tenant, ref string, pid int) (coredump.Subject, int, error)
	Delays(ctx context.Context, tenant triton.Tenant, ref string, operator bool) (node.Delayed, error)
	AllDelays() ([]node.Delayed, error)
	AskedNames(ctx context.Context, tenant triton.Tenant, ref string) (string, triton.NameService, triton.AskedNames, error)
	Disks(ctx context.Context, tenant triton.Tenant, ref string) (name string, disks []triton.Disk, err error)
	NetworkHealth(ctx context.Context, tenant triton.Tenant, ref string) (string, triton.NetworkHealth, error)
	Talks(ctx context.Context, tenant triton.Tenant, ref string, operator bool) (node.Talks, error)
	ServiceMap(tenant triton.Tenant, operator, all bool) (node.ServiceMap, error)
	Recorder(ctx context.Context, tenant triton.Tenant, ref string) (node.Recorded, error)
	ProfileSubject(ctx context.Context, tenant triton.Tenant, ref string) (profile.Subject, error)
	Watching(ctx context.Context, tenant triton.Tenant, ref string) (node.Watched, error)
	SetWatching(ctx context.Context, tenant triton.Tenant, ref string, level probes.Level, operator bool) (node.Watched, error)
	Ask(ctx context.Context, tenant triton.Tenant, q *question.Question, started func(), each func(question.Answer) error) error
	Trace(ctx context.Context, tenant triton.Tenant, ref string, f triton.TraceFilter, started func(), each func([]triton.TraceEvent) error) error
}

// Config is what the API shows.
type Config struct {
	Version wire.Version
	Node    Node
	Cores   Cores
	// Snapshot takes a core of a process that goes on.
	Snapshot func(ctx context.Context, sub coredump.Subject, pid int, o coredump.SnapshotOptions) (*coredump.Record, error)
	Stacks   Stacks
	Deaths   Deaths
	Groups   Groups
	Profile  Profiler
	Probes   func() wire.Probes
	Vars     func() wire.Vars
	// LoginLink makes a link to the page that logs its first user in as c.
	LoginLink func(c auth.Caller) (string, error)
	Access    Access
	Sign      Signer
	// Uses names what a tenant still has.
	Uses func(context.Context, triton.Tenant) ([]string, error)
	Log  *slog.Logger
}

// API serves /triton/v1 to callers that pkg/auth's middleware has put into the context.
type API struct {
	cfg Config
}

// New returns an API that shows cfg.
func New(cfg Config) *API { return &API{cfg} }

// access says who may use a route.
type access string

const (
	// forTenants: every caller; what it shows is of the caller's tenant or of nobody.
	forTenants access = "tenants"
	// forOperator: others get 403, because it is about the machine or about all tenants.
	forOperator access = "operator"
)

// route is one path. A test goes over all: one that shows a tenant's objects must have {ref} in its pattern.
type route struct {
	pattern string // method and path, as http.ServeMux has it
	access  access
	handle  func(*API, http.ResponseWriter, *http.Request, auth.Caller)
}

// routes lists every path.
func routes() []route {
	return append([]route{
		{"GET " + wire.Prefix + "version", forTenants, (*API).version},
		{"GET " + wire.Prefix + "containers/{ref}/observed", forTenants, (*API).observed},
		{"GET " + wire.Prefix + "containers/{ref}/placement", forTenants, (*API).placement},
		{"POST " + wire.LoginLinkPath, forTenants, (*API).loginLink},
		{"GET " + wire.Prefix + "probes", forOperator, (*API).probes},
		{"GET " + wire.Prefix + "debug/vars", forOperator, (*API).vars},
	}, slices.Concat(tenantRoutes(), coreRoutes(), groupRoutes(), deathRoutes(), delayRoutes(), diskRoutes(), dnsRoutes(), flowRoutes(), networkRoutes(),
		recorderRoutes(), profileRoutes(), watchRoutes(), traceRoutes(), askRoutes())...)
}

// Handler serves every path.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			c, ok := auth.FromContext(req.Context())
			switch {
			case !ok:
				a.refuse(w, http.StatusUnauthorized, "log in first")
			case r.access == forOperator && !c.Operator:
				a.refuse(w, http.StatusForbidden, req.URL.Path+" is for operators only")
			default:
				r.handle(a, w, req, c)
			}
		})
	}
	mux.HandleFunc(wire.Prefix, func(w http.ResponseWriter, _ *http.Request) { a.refuse(w, http.StatusNotFound, "page not found") })
	return mux
}

func (a *API) version(w http.ResponseWriter, _ *http.Request, _ auth.Caller) {
	a.reply(w, a.cfg.Version)
}

func (a *API) probes(w http.ResponseWriter, _ *http.Request, _ auth.Caller) {
	a.reply(w, a.cfg.Probes())
}

func (a *API) vars(w http.ResponseWriter, _ *http.Request, _ auth.Caller) { a.reply(w, a.cfg.Vars()) }

func (a *API) loginLink(w http.ResponseWriter, _ *http.Request, c auth.Caller) {
	link, err := a.cfg.LoginLink(c)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.LoginLink{Link: link})
}

func (a *API) observed(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	o, err := a.cfg.Node.Observe(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	out := observedOf(o)
	out.Missing = a.cfg.Probes().Missing
	a.reply(w, out)
}

// fail answers with the status of err's kind.
func (a *API) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errdefs.IsNotFound(err):
		status = http.StatusNotFound
	case errdefs.IsInvalidArgument(err):
		status = http.StatusBadRequest
	case errdefs.IsPermissionDenied(err):
		status = http.StatusForbidden
	case errdefs.IsAlreadyExists(err), errdefs.IsFailedPrecondition(err):
		status = http.StatusConflict
	case errdefs.IsResourceExhausted(err), errdefs.IsUnavailable(err):
		status = http.StatusServiceUnavailable
	}
	a.refuse(w, status, err.Error())
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
		First: t.First, Last: t.Last, Syscalls: make(map[string]wire.Syscall, len(t.Syscalls)), RunQueue: latencyOf(t.RunQueue), Waits: map[string]float64{},
		Execs: t.Execs, Exits: t.Exits, FatalSignals: t.FatalSignals, OOMKills: t.OOMKills,
		CPUSeconds: float64(t.CPUNs) / 1e9, Dropped: t.Dropped.Total(), Level: string(t.Level), Counted: t.Counted, Off: t.CallsOff(),
	}
	for reason, wait := range t.Waits {
		if wait > 0 {
			out.Waits[triton.WaitReason(reason).String()] = wait.Seconds()
		}
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
