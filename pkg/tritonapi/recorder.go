package tritonapi

import (
	"net/http"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func recorderRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/recorder", forTenants, (*API).recorder}}
}

func (a *API) recorder(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	rec, err := a.cfg.Node.Recorder(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.Recorder{ID: rec.Key.ID, Name: rec.Name, Threads: rec.Threads, More: rec.More})
}
