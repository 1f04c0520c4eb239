package tritonapi

import (
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func dnsRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/dns", forTenants, (*API).dns}}
}

func (a *API) dns(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	name, s, names, err := a.cfg.Node.AskedNames(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	out := wire.DNS{
		At: time.Now(), Name: name, RoundTrip: s.RoundTrip, Asked: s.Asked, AskedTCP: s.AskedTCP, Answers: s.Answers, Truncated: s.Truncated,
		Unanswered: s.Unanswered, Untimed: s.Untimed, Unasked: s.Unasked, Malformed: s.Malformed, Unfollowed: s.Unfollowed,
		Names: make([]wire.DNSName, 0, len(names.Names)), Other: names.Other,
	}
	for _, n := range names.Names {
		out.Names = append(out.Names, wire.DNSName{
			Name: n.Name, Type: n.Type, Asked: n.Asked, Answered: n.Answered, Missing: n.Missing, Failed: n.Failed, Unanswered: n.Unanswered,
			Seconds: n.Wait.Seconds(), Last: n.Last,
		})
	}
	a.reply(w, out)
}
