package tritonapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func traceRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/trace", forTenants, (*API).trace}}
}

// trace streams until the client leaves or the container ends. An error after the head is the last line.
func (a *API) trace(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	f, err := traceFilter(r.URL.Query())
	if err != nil {
		a.fail(w, err)
		return
	}
	s := a.startLines(w)
	defer s.end()
	err = a.cfg.Node.Trace(r.Context(), c.Tenant, r.PathValue("ref"), f, s.begin, func(batch []triton.TraceEvent) error {
		for _, e := range batch {
			if err := s.line(e); err != nil {
				return err
			}
		}
		return s.out.Flush()
	})
	switch {
	case r.Context().Err() != nil: // the client left
	case !s.begun:
		a.fail(w, err)
	case err != nil:
		a.reply(w, triton.TraceEvent{Ended: err.Error(), Failed: true})
	default:
		a.reply(w, triton.TraceEvent{Ended: "the container's run ended"})
	}
}

// traceFilter refuses what it does not know.
func traceFilter(query url.Values) (f triton.TraceFilter, err error) {
	for name, values := range query {
		value := values[len(values)-1]
		switch name {
		case "syscall":
			f.Numbers, err = telemetry.MatchSyscalls(values)
		case "errors":
			f.Errors, err = strconv.ParseBool(value)
		case "memory":
			f.Memory, err = strconv.ParseBool(value)
		case "slower":
			if f.Slower, err = time.ParseDuration(value); err == nil && f.Slower < 0 {
				err = errors.New("must not be less than nothing")
			}
		case "comm":
			f.Comm = value
		default:
			err = errors.New("unknown parameter")
		}
		if err != nil {
			return triton.TraceFilter{}, fmt.Errorf("%s=%s: %w: %w", name, value, err, errdefs.ErrInvalidArgument)
		}
	}
	return f, nil
}
