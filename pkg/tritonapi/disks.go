package tritonapi

import (
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func diskRoutes() []route {
	return []route{{"GET " + wire.Prefix + "containers/{ref}/disks", forTenants, (*API).disks}}
}

func (a *API) disks(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	name, all, err := a.cfg.Node.Disks(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	out := wire.Disks{At: time.Now(), Name: name, Disks: make([]wire.Disk, 0, len(all))}
	for _, d := range all {
		out.Disks = append(out.Disks, wire.Disk{
			Device: d.Name, Operation: d.Operation(), Requests: d.Requests(), Bytes: d.Bytes, Durations: d.Durations, Untimed: d.Untimed,
		})
	}
	a.reply(w, out)
}
