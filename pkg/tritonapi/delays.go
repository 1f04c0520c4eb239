package tritonapi

import (
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func delayRoutes() []route {
	return []route{
		{"GET " + wire.DelaysPath, forOperator, (*API).allDelays},
		{"GET " + wire.Prefix + "containers/{ref}/delays", forTenants, (*API).delays},
	}
}

func (a *API) allDelays(w http.ResponseWriter, _ *http.Request, _ auth.Caller) {
	all, err := a.cfg.Node.AllDelays()
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, delaysOf(all))
}

func (a *API) delays(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	d, err := a.cfg.Node.Delays(r.Context(), c.Tenant, r.PathValue("ref"), c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, delaysOf([]node.Delayed{d}))
}

func delaysOf(all []node.Delayed) wire.Delays {
	out := wire.Delays{At: time.Now(), Victims: make([]wire.Victim, 0, len(all))}
	for _, d := range all {
		v := wire.Victim{ID: d.Key.ID, Name: d.Name, Culprits: make([]wire.Culprit, 0, len(d.Culprits))}
		for _, c := range d.Culprits {
			v.Culprits = append(v.Culprits, wire.Culprit{Kind: string(c.Culprit), ID: c.Container.ID, Name: c.Name, Seconds: c.Wait.Seconds()})
		}
		out.Victims = append(out.Victims, v)
	}
	return out
}
