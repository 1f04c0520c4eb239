package tritonapi

import (
	"net/http"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Deaths is what the paths about abnormal ends need.
type Deaths interface {
	List(tenant triton.Tenant) (records []*death.Record, damaged int, err error)
	Get(tenant triton.Tenant, ref string) (*death.Record, error)
}

func deathRoutes() []route {
	return []route{
		{"GET " + wire.DeathsPath, forTenants, (*API).deathList},
		{"GET " + wire.DeathsPath + "/{ref}", forTenants, (*API).death},
	}
}

func (a *API) deathList(w http.ResponseWriter, _ *http.Request, c auth.Caller) {
	records, damaged, err := a.cfg.Deaths.List(c.Tenant)
	if err != nil {
		a.fail(w, err)
		return
	}
	list := wire.DeathList{Deaths: []wire.Death{}, Damaged: damaged}
	for _, r := range records {
		list.Deaths = append(list.Deaths, deathOf(r))
	}
	a.reply(w, list)
}

func deathOf(r *death.Record) wire.Death {
	d := wire.Death{
		ID: r.ID, Container: r.Container.ID, Name: r.Name, Image: r.Image, Run: r.Run, Restarts: r.Restarts,
		Started: r.Started, At: r.At, Kind: string(r.Kind), Code: r.Code, Reason: r.Reason,
	}
	if r.Core != nil {
		d.Core = r.Core.ID
	}
	return d
}

func (a *API) death(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	record, err := a.cfg.Deaths.Get(c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, record)
}
