package tritonapi

import (
	"maps"
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func networkRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/network", forTenants, (*API).network}}
}

func (a *API) network(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	name, h, err := a.cfg.Node.NetworkHealth(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	maps.DeleteFunc(h.ConnectFailures, func(_ string, n uint64) bool { return n == 0 })
	a.reply(w, wire.Network{
		At: time.Now(), Name: name, Connect: h.Connect, Accept: h.Accept, RTT: h.RTT, Failed: h.ConnectFailures, Drops: h.Drops,
		ResetsSent: h.ResetsSent, ResetsReceived: h.ResetsReceived,
	})
}
