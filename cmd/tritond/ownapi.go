package main

import (
	"cmp"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/prometheus/procfs"

	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/telemetry"
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
		Access: tenants{d.access, d.journal, d.node}, Sign: d.sign, Uses: d.tenantUses,
	}
}

func (d *daemon) probesView() wire.Probes {
	cost := d.probes.Cost()
	v := wire.Probes{
		Missing: []wire.Missing{}, Drops: d.probes.Drops(), Level: string(d.probes.Level()), Share: d.probes.CountedShare(d.probes.Level()),
		Price: cost.Price, Burden: cost.Burden, Tax: cost.Tax, Hooked: d.probes.PairAttached().Seconds(), Programs: []wire.Program{},
		Containers: []wire.Watching{}, At: time.Now(),
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
	for _, c := range d.watchings() {
		v.Containers = append(v.Containers, wire.Watching{
			ID: c.Key.ID, Name: c.Name, Tenant: string(c.Key.Tenant), Events: c.events, CPU: c.cpu, Dropped: c.Dropped,
		})
	}
	slices.SortStableFunc(v.Containers, func(a, b wire.Watching) int { return cmp.Compare(b.CPU, a.CPU) })
	return v
}

// watching is a container with what observing it costs.
type watching struct {
	telemetry.Rate
	events float64 // runs of programs a second
	cpu    float64 // of one CPU: an estimate
}

// watchings are in order of id; none before the cost is known.
func (d *daemon) watchings() []watching {
	cost := d.probes.Cost()
	if cost.At.IsZero() {
		return nil
	}
	var out []watching
	for _, r := range d.telemetry.Rates() {
		out = append(out, watching{r, r.Calls*cost.Attached + r.Switches, cost.Of(r.Calls, r.Switches)})
	}
	return out
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

// vars tells the daemon's size. What cannot be read is 0.
func (d *daemon) vars() wire.Vars {
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	v := wire.Vars{
		At: time.Now(), Goroutines: goruntime.NumGoroutine(), FDs: openFDs(), HeapBytes: m.HeapInuse,
		Containers: d.node.Count(), Slots: len(d.probes.Watched()),
	}
	if self, err := procfs.Self(); err == nil {
		if st, err := self.Stat(); err == nil {
			v.CPUSeconds, v.RSSBytes = st.CPUTime(), uint64(st.ResidentMemory())
		}
	}
	maps, err := d.probes.Memory()
	if err != nil {
		d.log.Warn("size of maps not known", "err", err)
	}
	for _, m := range maps {
		v.MapBytes += m.Bytes
	}
	return v
}
