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
	kind, during, err := profileOptions(r.URL.Query())
	if err != nil {
		a.fail(w, err)
		return
	}
	p, err := a.cfg.Profile(r.Context(), sub, kind, during)
	if err != nil {
		a.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(wire.ProfileHeader, p.Summary.String())
	if err := p.Pprof.Write(w); err != nil {
		a.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// profileOptions reads the parameters; without them it is ten seconds on CPUs.
func profileOptions(q url.Values) (triton.StackKind, time.Duration, error) {
	kind, during := triton.OnCPU, 10*time.Second
	for name, values := range q {
		v, ok := values[0], len(values) == 1
		switch name {
		case "kind":
			kind, ok = kinds[v]
		case "seconds":
			s, err := strconv.ParseFloat(v, 64)
			ok = ok && err == nil && s > 0 && s <= profile.MaxTime.Seconds()
			during = time.Duration(s * float64(time.Second))
		default:
			ok = false
		}
		if !ok {
			return 0, 0, fmt.Errorf("%s=%s: only kind (cpu, off-cpu) and seconds (up to %.0f) can be given: %w",
				name, v, profile.MaxTime.Seconds(), errdefs.ErrInvalidArgument)
		}
	}
	return kind, during, nil
}
