package tritonapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Profiler takes a profile; profile.Taker.Take is one.
type Profiler func(ctx context.Context, sub profile.Subject, kind triton.StackKind, during time.Duration) (*profile.Profile, error)

func profileRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/profile", forTenants, (*API).profile}}
}

// kinds are the values of the parameter kind.
var kinds = map[string]triton.StackKind{"cpu": triton.OnCPU, "off-cpu": triton.OffCPU}

func (a *API) profile(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	sub, err := a.cfg.Node.ProfileSubject(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	o, err := profileOptions(r.URL.Query())
	if err != nil {
		a.fail(w, err)
		return
	}
	p, err := a.cfg.Profile(r.Context(), sub, o.kind, o.during)
	if err != nil {
		a.fail(w, err)
		return
	}
	if o.flame {
		a.reply(w, wire.Flame{Summary: p.Summary.String(), Root: p.Flame()})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(wire.ProfileHeader, p.Summary.String())
	if err := p.Pprof.Write(w); err != nil {
		a.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// profileAsked is what the parameters of a profile say.
type profileAsked struct {
	kind   triton.StackKind
	during time.Duration
	flame  bool // as JSON for a flame graph
}

// profileOptions reads the parameters; without them it is ten seconds on CPUs, in pprof's form.
func profileOptions(q url.Values) (profileAsked, error) {
	o := profileAsked{during: 10 * time.Second}
	for name, values := range q {
		v, ok := values[0], len(values) == 1
		switch name {
		case "kind":
			var known bool
			o.kind, known = kinds[v]
			ok = ok && known
		case "seconds":
			s, err := strconv.ParseFloat(v, 64)
			ok = ok && err == nil && s > 0 && s <= profile.MaxTime.Seconds()
			o.during = time.Duration(s * float64(time.Second))
		case "form":
			o.flame = v == "flame"
			ok = ok && (o.flame || v == "pprof")
		default:
			ok = false
		}
		if !ok {
			return o, fmt.Errorf("%s=%s: only kind (cpu, off-cpu), form (pprof, flame) and seconds (up to %.0f) can be given, each once: %w",
				name, v, profile.MaxTime.Seconds(), errdefs.ErrInvalidArgument)
		}
	}
	return o, nil
}
