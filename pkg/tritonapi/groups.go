package tritonapi

import (
	"net/http"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Groups is what the paths about groups of crashes need.
type Groups interface {
	List(tenant triton.Tenant, operator bool) (groups []*crashgroup.Group, damaged int, err error)
	Get(tenant triton.Tenant, ref string, operator bool) (*crashgroup.Group, error)
	Resolve(tenant triton.Tenant, ref, by string, operator bool) (*crashgroup.Group, error)
	Reopen(tenant triton.Tenant, ref string, operator bool) (*crashgroup.Group, error)
}

func groupRoutes() []route {
	one := wire.GroupsPath + "/{ref}"
	return []route{
		{"GET " + wire.GroupsPath, forTenants, (*API).groupList},
		{"GET " + one, forTenants, (*API).group},
		{"POST " + one + "/resolve", forTenants, func(a *API, w http.ResponseWriter, r *http.Request, c auth.Caller) {
			a.replyGroup(w)(a.cfg.Groups.Resolve(c.Tenant, r.PathValue("ref"), c.Name, c.Operator))
		}},
		{"DELETE " + one + "/resolve", forTenants, func(a *API, w http.ResponseWriter, r *http.Request, c auth.Caller) {
			a.replyGroup(w)(a.cfg.Groups.Reopen(c.Tenant, r.PathValue("ref"), c.Operator))
		}},
	}
}

func (a *API) replyGroup(w http.ResponseWriter) func(*crashgroup.Group, error) {
	return func(g *crashgroup.Group, err error) {
		if err != nil {
			a.fail(w, err)
			return
		}
		a.reply(w, g)
	}
}

func (a *API) groupList(w http.ResponseWriter, _ *http.Request, c auth.Caller) {
	groups, damaged, err := a.cfg.Groups.List(c.Tenant, c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	list := wire.GroupList{Groups: []*crashgroup.Group{}, Damaged: damaged}
	for _, g := range groups {
		g.Counted = nil
		list.Groups = append(list.Groups, g)
	}
	a.reply(w, list)
}

// group answers with a group and those of its dumps that are kept.
func (a *API) group(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	g, err := a.cfg.Groups.Get(c.Tenant, r.PathValue("ref"), c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	records, _, err := a.cfg.Cores.List(c.Tenant, c.Operator)
	if err != nil {
		a.fail(w, err)
		return
	}
	out := wire.Group{Group: g, Cores: []wire.Core{}}
	for _, k := range records {
		if k.Kind == "" && k.Analysis != nil && k.Analysis.Group == g.ID {
			out.Cores = append(out.Cores, coreOf(k))
		}
	}
	a.reply(w, out)
}
