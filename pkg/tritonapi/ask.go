package tritonapi

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func askRoutes() []route {
	return []route{{"GET " + wire.AskPath, forTenants, (*API).ask}}
}

// machineNames are those that questions may have.
var machineNames = question.Names{
	Syscalls: func(pattern string) ([]int, error) { return telemetry.MatchSyscalls([]string{pattern}) },
	Device:   probes.BlockDevice,
}

// ask streams answers until the client leaves. An error after the head is the last line.
func (a *API) ask(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	text, err := questionText(r.URL.Query())
	if err != nil {
		a.fail(w, err)
		return
	}
	q, err := question.Parse(text, machineNames)
	if err != nil {
		mistake, _ := question.IsError(err)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		a.reply(w, wire.Mistake{Message: err.Error(), In: mistake.In, At: mistake.At, What: mistake.Msg})
		return
	}
	s := a.startLines(w)
	defer s.end()
	err = a.cfg.Node.Ask(r.Context(), c.Tenant, q, s.begin, func(answer question.Answer) error {
		if err := s.line(answer); err != nil {
			return err
		}
		return s.out.Flush()
	})
	switch {
	case r.Context().Err() != nil: // the client left
	case !s.begun && errdefs.IsResourceExhausted(err):
		a.refuse(w, http.StatusTooManyRequests, err.Error())
	case !s.begun:
		a.fail(w, err)
	case err != nil:
		a.reply(w, question.Answer{Ended: err.Error(), Failed: true})
	default:
		a.reply(w, question.Answer{Ended: "the daemon ends"})
	}
}

// questionText refuses what it does not know.
func questionText(query url.Values) (t question.Text, err error) {
	for name, values := range query {
		to := map[string]*string{"metric": &t.Metric, "where": &t.Where, "by": &t.By}[name]
		if to == nil || len(values) != 1 {
			return t, fmt.Errorf("%s: only metric, where and by can be given, each once: %w", name, errdefs.ErrInvalidArgument)
		}
		*to = values[0]
	}
	return t, nil
}
