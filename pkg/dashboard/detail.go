package dashboard

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// heatColumns is how long the time axis of a container is, in ticks. The store keeps a minute of it; what is older is kept
	// here, while somebody looks.
	heatColumns = 600
	// callWindow is what the table of system calls is taken over: shorter, and a call made twice a second has no p99.
	callWindow = 5 * time.Second
)

// detail is the source of the topic container.
type detail struct {
	cfg Config
	key triton.ContainerKey
	res time.Duration

	meta    ContainerMeta
	changes uint64
	listed  bool
	start   int // which start the samples are of
	prev    telemetry.Sample
	seen    bool
	columns []HeatColumn
	calls   []telemetry.Sample // the last few, for callWindow; only Time and PerSyscall matter
	table   *CallTable
	names   map[string]string // of all calls ever in the table
}

func newDetail(cfg Config, key triton.ContainerKey, res int) *detail {
	return &detail{cfg: cfg, key: key, res: time.Duration(res) * time.Second, names: map[string]string{}}
}

func (d *detail) run(ctx context.Context, publish func(func() body)) error {
	passed := d.cfg.Telemetry.Passed()
	for {
		gone, err := d.tick(ctx, publish)
		if gone || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-passed:
		}
		passed = d.cfg.Telemetry.Passed()
	}
}

// tick reads the container and its newest sample. gone: it was removed.
func (d *detail) tick(ctx context.Context, publish func(func() body)) (gone bool, err error) {
	changes := d.cfg.Containers.Changes()
	var now *triton.Container
	if !d.listed || changes != d.changes {
		if now, err = d.find(ctx); err != nil {
			return false, err
		}
		gone = now == nil
	}
	sample, ok := d.cfg.Telemetry.Last(d.key)
	publish(func() body {
		f := &ContainerFrame{Removed: gone}
		if now != nil {
			d.describe(now, f)
			d.changes = changes
		}
		if ok && !gone && (!d.seen || sample.Time.Sub(d.prev.Time) >= d.res-time.Second/2) {
			d.add(sample, f)
		}
		if ok && d.meta.Level != sample.Level {
			d.meta.Level = sample.Level
			meta := d.meta
			f.Meta = &meta
		}
		if f.Meta == nil && !f.Removed && len(f.Columns) == 0 && f.Calls == nil {
			return nil
		}
		return f
	})
	return gone, nil
}

// find returns the container, nil when there is none any more.
func (d *detail) find(ctx context.Context) (*triton.Container, error) {
	list, err := d.cfg.Containers.ListContainers(ctx, d.key.Tenant)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Key == d.key {
			return &list[i], nil
		}
	}
	if !d.listed {
		return nil, fmt.Errorf("no such container: %s: %w", triton.ShortID(d.key.ID), errdefs.ErrNotFound)
	}
	return nil, nil //nolint:nilnil // removed is no error here
}

// describe takes over what the list says, and begins anew where the container did.
func (d *detail) describe(c *triton.Container, f *ContainerFrame) {
	meta := ContainerMeta{
		RowMeta: metaOf(c), Command: strings.Join(c.Spec.Argv(), " "), ImageID: c.Spec.ImageID, Address: c.Network.Address,
		Pid: c.State.Pid, Created: millis(c.Created), TTY: c.Spec.TTY, LogsRead: c.Spec.Log.Driver != triton.LogNone,
	}
	if !d.listed {
		d.fill(d.cfg.Telemetry.Window(d.key))
	}
	if c.State.Run != d.start {
		d.start, d.seen, d.calls = c.State.Run, false, nil
	}
	meta.Level = d.meta.Level
	if !d.listed || !sameMeta(&d.meta.RowMeta, &meta.RowMeta) || d.meta.Pid != meta.Pid || d.meta.Address != meta.Address {
		f.Meta = &meta
	}
	d.meta, d.listed = meta, true
}

// fill begins the time axis with the minute that the store keeps.
func (d *detail) fill(window []telemetry.Sample) {
	for i := 1; i < len(window); i++ {
		a, b := &window[i-1], &window[i]
		if len(a.Durations.Counts) == 0 || b.Time.Sub(a.Time) > 3*time.Second {
			continue // every tenth second only, without histograms; or a hole
		}
		d.push(columnOf(a, b, b.Durations, b.RunQueue))
	}
}

// push keeps a column.
func (d *detail) push(c HeatColumn) {
	if len(d.columns) >= heatColumns {
		d.columns = append(d.columns[:0:0], d.columns[len(d.columns)-heatColumns+1:]...)
	}
	d.columns = append(d.columns, c)
}

// add takes a new sample.
func (d *detail) add(s telemetry.Sample, f *ContainerFrame) {
	if d.seen && s.Time.Equal(d.prev.Time) {
		return
	}
	// Two samples too far apart leave a hole: what happened between is not known second by second.
	if d.seen && s.Time.Sub(d.prev.Time) < d.res+2*time.Second && s.Syscalls >= d.prev.Syscalls {
		c := columnOf(&d.prev, &s, s.Durations.Sub(d.prev.Durations), s.RunQueue.Sub(d.prev.RunQueue))
		d.push(c)
		f.Columns = []HeatColumn{c}
	}
	d.prev, d.seen = s, true
	d.calls = append(d.calls, telemetry.Sample{Time: s.Time, PerSyscall: s.PerSyscall})
	for len(d.calls) > 2 && s.Time.Sub(d.calls[1].Time) >= callWindow-time.Second/2 {
		d.calls = append(d.calls[:0:0], d.calls[1:]...)
	}
	d.table = callsBetween(&d.calls[0], &d.calls[len(d.calls)-1])
	d.table.Estimated, d.table.Guessed, d.table.Off = s.CallsEstimated, s.CallsGuessed, s.CallsOff
	tick := *d.table
	tick.Names = d.name(d.table)
	f.Calls = &tick
}

// name notes the names of a table's calls and returns those that are new.
func (d *detail) name(t *CallTable) map[string]string {
	var fresh map[string]string
	for i := 0; i+1 < len(t.Nr); i += 2 {
		number := int(binary.LittleEndian.Uint16(t.Nr[i:]))
		nr := strconv.Itoa(number)
		if _, known := d.names[nr]; known {
			continue
		}
		if fresh == nil {
			fresh = map[string]string{}
		}
		fresh[nr] = telemetry.SyscallName(number)
		d.names[nr] = fresh[nr]
	}
	return fresh
}

// whole implements source.
func (d *detail) whole(history bool) body {
	meta := d.meta
	f := &ContainerFrame{Meta: &meta, Columns: d.columns}
	if !history { // the client has the older ones, and a hole of at most this
		f.Columns = d.columns[max(0, len(d.columns)-60):]
	}
	if d.table != nil {
		t := *d.table
		t.Names = d.names
		f.Calls = &t
	}
	return f
}

// columnOf is one tick of the time axis.
func columnOf(a, b *telemetry.Sample, calls, waits triton.Histogram) HeatColumn {
	scalars := scalarsOf(a, b, waits)
	vals := make([]float32, containerVals)
	copy(vals, scalars[:])
	wall := b.Time.Sub(a.Time).Seconds()
	lost := func(s *telemetry.Sample) float64 {
		return float64(s.Dropped.Total())
	}
	vals[valExecs] = rate(float64(a.Execs), float64(b.Execs), wall)
	vals[valForks] = rate(float64(a.Forks), float64(b.Forks), wall)
	vals[valDropped] = rate(lost(a), lost(b), wall)
	return HeatColumn{TimeMs: b.Time.UnixMilli(), Vals: packFloats(vals), Calls: packHeat(calls), Waits: packHeat(waits), Estimated: b.CallsEstimated}
}

// callsBetween is the table of system calls between two samples. The total is since the watch began.
func callsBetween(a, b *telemetry.Sample) *CallTable {
	before := make(map[int]telemetry.SyscallSample, len(a.PerSyscall))
	for _, c := range a.PerSyscall {
		before[c.Nr] = c
	}
	seconds := b.Time.Sub(a.Time).Seconds()
	t := &CallTable{Seconds: seconds, Nr: []byte{}, Total: []byte{}} // not nil: the page reads bytes, also where there are none
	var rates, errs, p50, p99 []float32
	calls := slices.Clone(b.PerSyscall)
	slices.SortFunc(calls, func(x, y telemetry.SyscallSample) int { return x.Nr - y.Nr })
	for _, c := range calls {
		old := before[c.Nr]
		h := c.Durations.Sub(old.Durations)
		t.Nr = binary.LittleEndian.AppendUint16(t.Nr, uint16(c.Nr))
		t.Total = binary.LittleEndian.AppendUint64(t.Total, math.Float64bits(float64(c.Count)))
		rates = append(rates, rate(float64(old.Count), float64(c.Count), seconds))
		errs = append(errs, rate(float64(old.Errors), float64(c.Errors), seconds))
		if seconds <= 0 { // the first sample: nothing to compare with
			h = triton.Histogram{}
		}
		p50, p99 = append(p50, quantile(h, 0.5)), append(p99, quantile(h, 0.99))
	}
	t.Rate, t.Errors, t.P50, t.P99 = packFloats(rates), packFloats(errs), packFloats(p50), packFloats(p99)
	return t
}
