package probes

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/tritond/triton/bpf"
)

// Surveyed is what this kernel makes of one program.
type Surveyed struct {
	Object  string // measure, exits, trace, peers, names, profile, network
	Program string
	// As is the alternative that runs, Program itself where the kernel takes that; "" if none does.
	As string
	// Reason says why Program does not run under its own name.
	Reason error
	// Optional programs are left out where the kernel refuses them; without the others the daemon does not start.
	Optional bool
	// Instructions is how many the verifier went through for As, 0 where the kernel does not tell.
	Instructions uint32
}

// object is a collection with what is known of its programs. Those that no list names stand for themselves.
type object struct {
	name     string
	load     func() (*ebpf.CollectionSpec, error)
	programs []program
	optional bool // as a whole
}

var objects = []object{
	{name: "exits", load: bpf.LoadExits, programs: []program{{names: []string{bpf.ExitsProgExitsExit, bpf.ExitsProgExitsExitOld}}}},
	{name: "measure", load: bpf.LoadMeasure, programs: measureProgramList},
	{name: "trace", load: bpf.LoadTrace, optional: true},
	{name: "asksyscalls", load: bpf.LoadAskSyscalls, optional: true},
	{name: "askblock", load: bpf.LoadAskBlock, optional: true},
	{name: "askrunqueue", load: bpf.LoadAskRunQueue, optional: true},
	{name: "asktcp", load: bpf.LoadAskTCP, optional: true},
	{name: "peers", load: bpf.LoadPeers, programs: peerProgramList, optional: true},
	{name: "names", load: bpf.LoadNames, optional: true},
	{name: "profile", load: bpf.LoadProfile, programs: profileProgramList, optional: true},
	{name: "network", load: bpf.LoadNetwork, programs: networkProgramList, optional: true},
}

// Survey loads every program and attaches those that hang on tracepoints or clocks, each by itself and for a moment: nothing of it
// is left, and nothing that runs is changed. Programs that the kernel refuses are in the result, not errors.
func Survey() ([]Surveyed, error) {
	var all []Surveyed
	for _, o := range objects {
		spec, err := o.load()
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", o.name, err)
		}
		if o.name == "measure" {
			k := &measurePrograms{loaded: newLoaded()}
			if err := k.size(spec, Config{MaxContainers: 1, RecorderThreads: 1}.withDefaults()); err != nil {
				return nil, err
			}
		}
		for _, m := range spec.Maps {
			if m.MaxEntries == 0 && m.Type != ebpf.TaskStorage && m.Type != ebpf.SkStorage {
				m.MaxEntries = 64
			}
		}
		left := maps.Clone(spec.Programs)
		list := slices.Clone(o.programs)
		for _, p := range o.programs {
			for _, name := range p.names {
				delete(left, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(left)) {
			list = append(list, program{names: []string{name}})
		}
		for _, p := range list {
			s := survey(spec, p)
			s.Object, s.Optional = o.name, o.optional || p.optional
			all = append(all, s)
		}
	}
	return all, nil
}

// survey tries the alternatives of a program.
func survey(spec *ebpf.CollectionSpec, p program) Surveyed {
	s := Surveyed{Program: p.names[0]}
	var errs []error
	for _, name := range p.names {
		n, err := try(spec, name)
		if err == nil {
			s.As, s.Instructions = name, n
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	s.Reason = errors.Join(errs...)
	return s
}

// try loads and attaches one program, and returns what the verifier went through.
func try(spec *ebpf.CollectionSpec, name string) (instructions uint32, err error) {
	k := newLoaded()
	defer func() { err = errors.Join(err, k.close()) }()
	prog, err := k.loadOne(spec, name)
	if err != nil {
		return 0, err
	}
	defer prog.Close()
	if info, err := prog.Info(); err == nil {
		instructions, _ = info.VerifiedInstructions()
	}
	var l link.Link
	switch {
	case spec.Programs[name].Type == ebpf.PerfEvent:
		l, err = tickOn(prog, 0)
	case spec.Programs[name].AttachType == ebpf.AttachTraceRawTp:
		l, err = link.AttachTracing(link.TracingOptions{Program: prog})
	default:
		return instructions, nil
	}
	if err != nil {
		return instructions, err
	}
	return instructions, l.Close()
}
