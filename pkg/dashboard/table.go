package dashboard

import (
	"context"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// historyTicks is how much CPU history a snapshot of the table carries, for the small curves.
const historyTicks = 60

// unknownCPU marks a tick without a reading in the history; maxCPU is the highest that fits, in 1/1000 core.
const (
	unknownCPU = math.MaxUint16
	maxCPU     = math.MaxUint16 - 1
)

// table is the source of the topic containers: all of a tenant that pass a filter.
type table struct {
	cfg    Config
	tenant triton.Tenant
	filter Filter
	res    time.Duration

	rows    map[string]*row // by container id; those that pass the filter
	hidden  map[string]*row // those that do not now, but may when their numbers change
	free    []uint32
	next    uint32
	changes uint64
	listed  bool
}

// row is one container.
type row struct {
	key     triton.ContainerKey
	meta    RowMeta
	prev    telemetry.Sample
	seen    bool // prev is set
	filled  bool // prev and the numbers are of the store's window, and the history has them
	vals    [tableCols]float32
	history [historyTicks]uint16 // a ring; at is the oldest
	at      int
}

func newTable(cfg Config, key groupKey, f Filter) *table {
	return &table{
		cfg: cfg, tenant: key.tenant, filter: f, res: time.Duration(key.res) * time.Second,
		rows: map[string]*row{}, hidden: map[string]*row{},
	}
}

// run reads the last samples after every pass, or every few at a lower resolution.
func (t *table) run(ctx context.Context, publish func(func() body)) error {
	passed := t.cfg.Telemetry.Passed() // before the reading, so that a pass meanwhile is not missed
	if err := t.tick(ctx, publish); err != nil {
		return err
	}
	last := t.cfg.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-passed:
		}
		passed = t.cfg.Telemetry.Passed()
		now := t.cfg.Now()
		if t.res > time.Second && now.Sub(last) < t.res-time.Second/2 {
			continue
		}
		last = now
		if err := t.tick(ctx, publish); err != nil {
			return err
		}
	}
}

// tick brings the rows up to date. Lists are read without the group's lock.
func (t *table) tick(ctx context.Context, publish func(func() body)) error {
	var list []triton.Container
	changes := t.cfg.Containers.Changes() // before the list, so that a change meanwhile is seen next time
	fresh := !t.listed || changes != t.changes
	if fresh {
		var err error
		if list, err = t.cfg.Containers.ListContainers(ctx, t.tenant); err != nil {
			return err
		}
	}
	publish(func() body {
		f := &TableFrame{}
		if fresh {
			t.relist(list, f)
			t.changes, t.listed = changes, true
		}
		t.measure(f)
		return f
	})
	return nil
}

// relist takes a new list: f gets what left and what is described anew.
func (t *table) relist(list []triton.Container, f *TableFrame) {
	there := make(map[string]bool, len(list))
	for i := range list {
		c := &list[i]
		there[c.Key.ID] = true
		meta := metaOf(c)
		if r := t.rows[c.Key.ID]; r != nil {
			meta.Row, meta.Level = r.meta.Row, r.meta.Level
			if !sameMeta(&r.meta, &meta) {
				r.meta = meta
				f.Meta = append(f.Meta, meta)
			}
			continue
		}
		if r := t.hidden[c.Key.ID]; r != nil {
			meta.Level = r.meta.Level
			r.meta = meta
			continue
		}
		r := &row{key: c.Key, meta: meta}
		r.blank()
		r.fill(t.cfg.Telemetry, t.res)
		t.hidden[c.Key.ID] = r
	}
	for id, r := range t.rows {
		if !there[id] {
			delete(t.rows, id)
			t.release(r, f)
		}
	}
	maps.DeleteFunc(t.hidden, func(id string, _ *row) bool { return !there[id] })
}

func (t *table) release(r *row, f *TableFrame) {
	f.Gone = append(f.Gone, r.meta.Row)
	t.free = append(t.free, r.meta.Row)
}

// measure reads every container's last sample, and moves those whose numbers decide about the filter.
func (t *table) measure(f *TableFrame) {
	changed := map[uint32]*row{}
	for id, r := range t.rows {
		level := r.meta.Level
		if r.read(t.cfg.Telemetry) {
			changed[r.meta.Row] = r
		}
		if r.meta.Level != level {
			f.Meta = append(slices.DeleteFunc(f.Meta, func(m RowMeta) bool { return m.Row == r.meta.Row }), r.meta)
		}
		if !t.filter.Match(&r.meta, r.vals[:]) {
			delete(t.rows, id)
			delete(changed, r.meta.Row)
			f.Meta = slices.DeleteFunc(f.Meta, func(m RowMeta) bool { return m.Row == r.meta.Row })
			t.hidden[id] = r
			t.release(r, f)
		}
	}
	for id, r := range t.hidden {
		if _, left := t.rows[id]; left {
			continue
		}
		r.read(t.cfg.Telemetry)
		if t.filter.Match(&r.meta, r.vals[:]) {
			delete(t.hidden, id)
			r.meta.Row = t.number()
			t.rows[id] = r
			changed[r.meta.Row] = r
			f.Meta = append(f.Meta, r.meta)
		}
	}
	rows := slices.Sorted(maps.Keys(changed))
	slices.SortFunc(f.Meta, func(a, b RowMeta) int { return int(a.Row) - int(b.Row) })
	f.set(rows, func(n uint32) *row { return changed[n] })
}

func (t *table) number() uint32 {
	if n := len(t.free); n > 0 {
		row := t.free[n-1]
		t.free = t.free[:n-1]
		return row
	}
	t.next++
	return t.next - 1
}

// set fills in the columns of the rows given.
func (f *TableFrame) set(rows []uint32, get func(uint32) *row) {
	f.N, f.Rows = len(rows), packRows(rows)
	f.Cols = make([][]byte, tableCols)
	for col := range f.Cols {
		vals := make([]float32, len(rows))
		for i, n := range rows {
			vals[i] = get(n).vals[col]
		}
		f.Cols[col] = packFloats(vals)
	}
}

// whole implements source.
func (t *table) whole(history bool) body {
	byRow := make(map[uint32]*row, len(t.rows))
	for _, r := range t.rows {
		byRow[r.meta.Row] = r
	}
	f := &TableFrame{}
	rows := slices.Sorted(maps.Keys(byRow))
	f.set(rows, func(n uint32) *row { return byRow[n] })
	for _, n := range rows {
		r := byRow[n]
		f.Meta = append(f.Meta, r.meta)
		if history {
			for i := range historyTicks {
				f.History = binary.LittleEndian.AppendUint16(f.History, r.history[(r.at+i)%historyTicks])
			}
		}
	}
	return f
}

// read takes the newest sample; it reports whether a number changed.
func (r *row) read(from Telemetry) bool {
	before := r.vals
	s, ok := from.Last(r.key)
	switch {
	case !ok || !triton.Status(r.meta.Status).Runs():
		r.blank()
		r.seen = false
		r.remember(unknownCPU)
	case !r.seen:
		r.prev, r.seen = s, true
		r.remember(unknownCPU)
	case s.Time.After(r.prev.Time):
		r.vals = scalarsOf(&r.prev, &s, s.RunQueue.Sub(r.prev.RunQueue))
		r.prev = s
		r.remember(milliCPU(r.vals[colCPU]))
	case !r.filled: // nothing new: the store is late, and the numbers stand
		r.remember(unknownCPU)
	}
	r.filled = false
	if ok {
		r.meta.Level = s.Level
	}
	for i, v := range r.vals {
		if math.Float32bits(v) != math.Float32bits(before[i]) {
			return true
		}
	}
	return false
}

func (r *row) remember(cpu uint16) {
	r.history[r.at] = cpu
	r.at = (r.at + 1) % historyTicks
}

var nan32 = float32(math.NaN())

// blank forgets the numbers.
func (r *row) blank() {
	for i := range r.vals {
		r.vals[i] = nan32
	}
}

// fill begins a row that is new to this table with what the store keeps of it.
func (r *row) fill(from Telemetry, res time.Duration) {
	for i := range r.history {
		r.history[i] = unknownCPU
	}
	var last *telemetry.CPUReading
	for _, now := range from.CPU(r.key) {
		if last != nil && now.Time.Sub(last.Time) < res-time.Second/2 {
			continue
		}
		if last != nil && now.Time.Sub(last.Time) < 2*res {
			r.remember(milliCPU(rate(float64(last.Used), float64(now.Used), float64(now.At.Sub(last.At)))))
		}
		last = &now
	}
	if two := from.Newest(r.key, 2); len(two) == 2 && two[1].Time.Sub(two[0].Time) < 2*res {
		r.vals = scalarsOf(&two[0], &two[1], two[1].RunQueue)
	}
	r.prev, r.seen = from.Last(r.key)
	r.filled = r.seen
}

func milliCPU(cores float32) uint16 {
	if math.IsNaN(float64(cores)) || cores < 0 {
		return unknownCPU
	}
	return uint16(min(math.Round(float64(cores)*1000), maxCPU))
}

// scalarsOf gives the table's columns between two samples; waits are the run-queue waits from one to the other. A counter
// that fell began anew: its rate is unknown.
func scalarsOf(a, b *telemetry.Sample, waits triton.Histogram) (vals [tableCols]float32) {
	wall := b.Time.Sub(a.Time).Seconds()
	used := b.Usage.Time.Sub(a.Usage.Time).Seconds() // the cgroup is read at a moment of its own
	vals[colCPU] = rate(float64(a.Usage.CPUTotal), float64(b.Usage.CPUTotal), used*1e9)
	vals[colThrottled] = rate(float64(a.Usage.CPUThrottledTime), float64(b.Usage.CPUThrottledTime), used*1e9)
	vals[colMemory] = float32(b.Usage.MemoryWorkingSet)
	vals[colWait50], vals[colWait99] = quantile(waits, 0.5), quantile(waits, 0.99)
	vals[colSyscalls], vals[colErrors] = nan32, nan32
	if !b.NoCalls {
		vals[colSyscalls] = rate(float64(a.Syscalls), float64(b.Syscalls), wall)
		vals[colErrors] = rate(float64(a.SyscallErrors), float64(b.SyscallErrors), wall)
	}
	vals[colPids] = float32(b.Usage.Pids)
	return vals
}

func rate(a, b, seconds float64) float32 {
	if b < a || seconds <= 0 {
		return nan32
	}
	return float32((b - a) / seconds)
}

// quantile is in seconds; NaN for an empty histogram.
func quantile(h triton.Histogram, q float64) float32 {
	if h.Count() == 0 {
		return nan32
	}
	return float32(h.Quantile(q).Seconds())
}

// metaOf describes a container.
func metaOf(c *triton.Container) RowMeta {
	m := RowMeta{
		ID: c.Key.ID, Name: c.Name, Image: c.Spec.Image, Status: string(c.State.Status), Restarts: max(c.State.Run-1, 0),
		ExitCode: c.State.ExitCode, OOM: c.State.OOMKilled, StartedMs: millis(c.State.StartedAt), EndedMs: millis(c.State.FinishedAt),
		CPULimit: cpuLimit(c.Spec.Resources), MemLimit: c.Spec.Resources.Memory, Labels: c.Spec.Labels,
	}
	if c.State.Status.Runs() {
		m.EndedMs = 0
	}
	return m
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func sameMeta(a, b *RowMeta) bool {
	x, y := *a, *b
	x.Labels, y.Labels = nil, nil
	return maps.Equal(a.Labels, b.Labels) && flat(x) == flat(y)
}

// cpuLimit is in cores; 0: none.
func cpuLimit(r triton.Resources) float64 {
	if r.NanoCPUs > 0 {
		return float64(r.NanoCPUs) / 1e9
	}
	if r.CPUQuota <= 0 {
		return 0
	}
	period := r.CPUPeriod
	if period == 0 {
		period = 100_000 // the kernel's, in microseconds (sched-bwc.rst)
	}
	return float64(r.CPUQuota) / float64(period)
}

// flat is RowMeta without the map, which cannot be compared.
func flat(m RowMeta) [12]any {
	return [12]any{m.Row, m.ID, m.Name, m.Image, m.Status, m.Restarts, m.ExitCode, m.OOM, m.StartedMs, m.EndedMs, m.CPULimit, m.MemLimit}
}
