package probes

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/tritond/triton/bpf"
)

// MissingProgram is a program that does not run, and what that means can be read from its name.
type MissingProgram struct {
	Program string
	Reason  error
}

// program is one thing to load: the first of names that the kernel takes.
type program struct {
	names    []string
	optional bool
	always   bool // attached at Open, not only while it is needed
}

var measureProgramList = []program{
	{names: []string{bpf.MeasureProgSysExit}},
	{names: []string{bpf.MeasureProgSysEnter}},
	{names: []string{bpf.MeasureProgSchedSwitch}, optional: true},
	{names: []string{bpf.MeasureProgThreadsFreed}, optional: true, always: true},
	{names: []string{bpf.MeasureProgProcessExits, bpf.MeasureProgProcessExitsOld}, optional: true, always: true},
	{names: []string{bpf.MeasureProgProcessExecs}, optional: true, always: true},
	{names: []string{bpf.MeasureProgProcessForks}, optional: true, always: true},
	{names: []string{bpf.MeasureProgSignals}, optional: true, always: true},
	{names: []string{bpf.MeasureProgOomKills}, optional: true, always: true},
	{names: []string{bpf.MeasureProgBlockIos}, optional: true, always: true},
}

// loaded are programs that share maps, loaded one by one, since one that the kernel refuses would take its collection
// with it.
type loaded struct {
	maps      map[string]*ebpf.Map
	variables map[string]*ebpf.Variable
	programs  map[string]*ebpf.Program
	resident  map[string]*ebpf.Program // those always attached
	links     []link.Link              // of those always attached
	missing   []MissingProgram
}

func newLoaded() loaded {
	return loaded{maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, resident: map[string]*ebpf.Program{}}
}

// measurePrograms are the programs and maps that end with the daemon.
type measurePrograms struct {
	loaded
	shards int
	slots  *mapped[bpf.MeasureSlot]
	cells  *mapped[bpf.MeasureCell]
	rings  *mapped[bpf.MeasureRing]
	// accepts are by slot; of one entry where the network is not watched.
	accepts *mapped[bpf.MeasureAcceptDelay]
	seen    sync.Map // device: true; some of those in disks, and no others
}

// loadMeasure sizes and loads the maps, then the programs.
//
// first is the exit program's map of first processes, which tells setup from program; k keeps a copy of its descriptor.
func loadMeasure(cfg Config, first *ebpf.Map) (_ *measurePrograms, err error) {
	k := &measurePrograms{loaded: newLoaded()}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.close())
		}
	}()
	spec, err := bpf.LoadMeasure()
	if err != nil {
		return nil, err
	}
	if err := k.size(spec, cfg); err != nil {
		return nil, err
	}
	spec.Maps[bpf.MeasureMapExits].MaxEntries = first.MaxEntries()
	if k.maps[bpf.MeasureMapExits], err = first.Clone(); err != nil {
		return nil, fmt.Errorf("share map of first processes: %w", err)
	}
	if err := k.loadAll(spec, measureProgramList); err != nil {
		return nil, err
	}
	if err := k.variables[bpf.MeasureVarSeated].Set(k.resident[bpf.MeasureProgThreadsFreed] != nil); err != nil {
		return nil, fmt.Errorf("set %s: %w", bpf.MeasureVarSeated, err)
	}
	if k.slots, err = mapMemory[bpf.MeasureSlot](k.maps[bpf.MeasureMapSlots]); err != nil {
		return nil, err
	}
	if k.cells, err = mapMemory[bpf.MeasureCell](k.maps[bpf.MeasureMapCells]); err != nil {
		return nil, err
	}
	if k.accepts, err = mapMemory[bpf.MeasureAcceptDelay](k.maps[bpf.MeasureMapAcceptDelays]); err != nil {
		return nil, err
	}
	if k.rings, err = mapMemory[bpf.MeasureRing](k.maps[bpf.MeasureMapRings]); err != nil {
		return nil, err
	}
	return k, nil
}

// size sets the bounds of the maps and the options of the programs.
func (k *measurePrograms) size(spec *ebpf.CollectionSpec, cfg Config) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	k.shards = min(shardsMax, 1<<bits.Len(uint(cpus-1)))
	slots := cfg.MaxContainers * k.shards
	cells := slots * (1 + cfg.CellsPerContainer)
	spec.Maps[bpf.MeasureMapSlots].MaxEntries = uint32(slots)
	spec.Maps[bpf.MeasureMapCells].MaxEntries = uint32(cells)
	spec.Maps[bpf.MeasureMapFreeCells].MaxEntries = uint32(cells)
	spec.Maps[bpf.MeasureMapOwnersV2].MaxEntries = uint32(cfg.MaxContainers)
	spec.Maps[bpf.MeasureMapDelays].MaxEntries = uint32(cfg.MaxContainers * delaysPerContainer)
	spec.Maps[bpf.MeasureMapDisks].MaxEntries = uint32(cfg.MaxContainers * disksPerContainer)
	spec.Maps[bpf.MeasureMapOwnersBlkio].MaxEntries = uint32(cfg.MaxContainers)
	rings := uint32(cfg.RecorderThreads)
	if rings > 0 {
		rings++ // 0 is no ring
	}
	spec.Maps[bpf.MeasureMapRings].MaxEntries = max(1, rings)
	spec.Maps[bpf.MeasureMapFreeRings].MaxEntries = max(1, rings)
	if cfg.Network {
		spec.Maps[bpf.MeasureMapAcceptDelays].MaxEntries = uint32(cfg.MaxContainers)
		spec.Maps[bpf.MeasureMapAcceptQueue].MaxEntries = acceptsMax
	}
	spec.Maps[bpf.MeasureMapRingUses].MaxEntries = uint32(cfg.MaxContainers)
	for name, value := range map[string]any{
		bpf.MeasureVarCountAccepts: cfg.Network,
		bpf.MeasureVarRingLimit:    rings,
		bpf.MeasureVarRingShare:    ringShare(cfg.RecorderThreads),
		bpf.MeasureVarRingKeptNs:   uint64(max(0, cfg.ringsKept)),
		bpf.MeasureVarShards:       uint32(k.shards),
		bpf.MeasureVarExclusive:    cpus <= k.shards,
		bpf.MeasureVarCellLimit:    uint64(cells),
		bpf.MeasureVarFreshCells:   uint64(slots),
		bpf.MeasureVarWaitReasons:  waitReasons(),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func (k *loaded) loadAll(spec *ebpf.CollectionSpec, list []program) error {
	for _, p := range list {
		if err := k.load(spec, p); err != nil {
			return err
		}
	}
	return nil
}

// load loads the first alternative of p that the kernel takes, and attaches it when it is always on.
func (k *loaded) load(spec *ebpf.CollectionSpec, p program) error {
	var errs []error
	for _, name := range p.names {
		prog, err := k.loadOne(spec, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", name, err))
			continue
		}
		if !p.always {
			k.programs[name] = prog
			return nil
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: prog})
		if err == nil {
			k.links = append(k.links, l)
			k.resident[name] = prog
			return nil
		}
		prog.Close()
		errs = append(errs, fmt.Errorf("attach %s: %w", name, err))
	}
	err := errors.Join(errs...)
	if !p.optional {
		return err
	}
	k.missing = append(k.missing, MissingProgram{Program: p.names[0], Reason: err})
	return nil
}

// loadOne loads one program; the first call makes the maps, the others share them.
func (k *loaded) loadOne(all *ebpf.CollectionSpec, name string) (*ebpf.Program, error) {
	spec := all.Copy()
	for n := range spec.Programs {
		if n != name {
			delete(spec.Programs, n)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: k.maps})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	if k.variables == nil {
		k.variables = coll.Variables
		for n := range coll.Maps {
			if k.maps[n] == nil {
				k.maps[n] = coll.DetachMap(n)
			}
		}
	}
	return coll.DetachProgram(name), nil
}

func (k *measurePrograms) close() error {
	return errors.Join(k.slots.unmap(), k.cells.unmap(), k.rings.unmap(), k.accepts.unmap(), k.loaded.close())
}

func (k *loaded) close() error {
	var errs []error
	for _, l := range k.links {
		errs = append(errs, l.Close())
	}
	for _, p := range k.programs {
		errs = append(errs, p.Close())
	}
	for _, p := range k.resident {
		errs = append(errs, p.Close())
	}
	for _, m := range k.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// load64 reads a counter that the kernel may be adding to.
func load64(p *uint64) uint64 { return atomic.LoadUint64(p) }

// store64 sets a number that the kernel reads.
func store64(p *uint64, v uint64) { atomic.StoreUint64(p, v) }

// missed counts runs of programs that the kernel skipped because the program was running on that CPU already.
func (k *measurePrograms) missed() uint64 {
	var n uint64
	for _, p := range k.programs {
		if st, err := p.Stats(); err == nil {
			n += st.RecursionMisses
		}
	}
	return n
}
