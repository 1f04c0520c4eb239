package main

import (
	goruntime "runtime"

	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/tritonapi"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// ownAPI is what /triton/v1 shows.
func (d *daemon) ownAPI() tritonapi.Config {
	return tritonapi.Config{
		Version: wire.Version{
			Version: version, Commit: commit, Instance: d.cfg.Instance, Node: d.static.Name, Started: d.static.Started,
		},
		Node: d.node, Log: d.log.With("part", "api"), Probes: d.probesView, Vars: d.vars, LoginLink: d.loginLink,
		Cores: d.cores.Store(), Stacks: d.cores, Snapshot: d.cores.Snapshot, Deaths: d.deaths, Groups: d.groups, Profile: d.taker.Take,
		Access: d.access, Sign: d.sign, Uses: d.tenantUses,
	}
}

func (d *daemon) probesView() wire.Probes {
	cost := d.probes.Cost()
	v := wire.Probes{
		Missing: []wire.Missing{}, Drops: d.probes.Drops(), Level: string(d.probes.Level()), Share: d.probes.CountedShare(d.probes.Level()),
		Price: cost.Price, Burden: cost.Burden, Tax: cost.Tax, Programs: []wire.Program{},
	}
	if s, ok := d.probes.Stepping(); ok {
		v.Stepping = steppingView(s)
	}
	for _, c := range cost.Programs {
		v.Programs = append(v.Programs, wire.Program(c))
	}
	for _, m := range d.probes.Missing() {
		v.Missing = append(v.Missing, wire.Missing{Program: m.Program, Reason: m.Reason.Error()})
	}
	return v
}

func steppingView(s probes.Stepping) *wire.Stepping {
	v := &wire.Stepping{Budget: s.Share, Steps: s.Steps, Hold: s.Hold.Seconds(), Estimates: map[string]float64{}}
	for l, price := range s.Estimates {
		v.Estimates[string(l)] = price
	}
	if s.Steps > 0 {
		v.Last = &wire.Step{
			At: s.Last.At, From: string(s.Last.From), To: string(s.Last.To), Price: s.Last.Price, Estimate: s.Last.Estimate, Why: s.Last.Why,
		}
	}
	return v
}

func (d *daemon) vars() wire.Vars {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return wire.Vars{
		Goroutines: goruntime.NumGoroutine(), FDs: openFDs(), HeapBytes: m.HeapInuse,
		Containers: d.node.Count(), Slots: len(d.probes.Watched()),
	}
}
