package tritonapi

import (
	"net/http"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func watchRoutes() []route {
	return []route{
		{"GET " + wire.Prefix + "containers/{ref}/watch", forTenants, (*API).watching},
		{"POST " + wire.Prefix + "containers/{ref}/watch", forTenants, (*API).setWatching},
	}
}

func (a *API) watching(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	got, err := a.cfg.Node.Watching(r.Context(), c.Tenant, r.PathValue("ref"))
	a.replyWatched(w, got, err)
}

// setWatching has the parameter level; without one the container's label holds again.
func (a *API) setWatching(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	for name := range r.URL.Query() {
		if name != "level" {
			a.refuse(w, http.StatusBadRequest, "unknown parameter "+name)
			return
		}
	}
	level := probes.Level(r.URL.Query().Get("level"))
	got, err := a.cfg.Node.SetWatching(r.Context(), c.Tenant, r.PathValue("ref"), level, c.Operator)
	a.replyWatched(w, got, err)
}

func (a *API) replyWatched(w http.ResponseWriter, got node.Watched, err error) {
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.Watched{ID: got.Key.ID, Name: got.Name, Asked: string(got.Asked), Level: string(got.Level)})
}
