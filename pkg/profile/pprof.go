package profile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/triton"
)

// Profile is a finished one.
type Profile struct {
	Pprof   *profile.Profile
	Summary Summary
}

// Summary says what a profile is of, and what is not in it.
type Summary struct {
	Container string // id
	Name      string
	Seconds   float64 // how long it was taken
	Stacks    int     // different ones
	Samples   uint64  // looks at a CPU, or waits
	Sampled   float64 // seconds that they stand for
	CPU       float64 // seconds on CPUs by the kernel's count, 0: not known
	Processes int     // that were seen
	Gone      uint64  // samples of processes that had ended before their mappings were read
	Unnamed   uint64  // samples whose innermost function has no name
	Lost      triton.StackLoss
	// Missing is why names are missing, at most maxMissing reasons.
	Missing []string
}

// maxMissing bounds the reasons in a summary.
const maxMissing = 16

// builder makes the pprof form.
type builder struct {
	p         *profile.Profile
	mappings  map[string]*profile.Mapping
	functions map[[2]string]*profile.Function
	locations map[locationKey]*profile.Location
}

// locationKey is a place in a file, or what stands for one.
type locationKey struct {
	place  place
	stands string
}

// build makes the profile of what was named.
func (c *Collector) build(n *naming, cpu time.Duration) (*Profile, error) {
	end := c.end
	if end.IsZero() {
		end = c.cfg.Now()
	}
	took := end.Sub(c.start)
	b := &builder{
		p:        &profile.Profile{TimeNanos: c.start.UnixNano(), DurationNanos: took.Nanoseconds()},
		mappings: map[string]*profile.Mapping{}, functions: map[[2]string]*profile.Function{}, locations: map[locationKey]*profile.Location{},
	}
	b.types(c.cfg.Kind)
	s := Summary{
		Container: c.cfg.Subject.Key.ID, Name: c.cfg.Subject.Name, Seconds: took.Seconds(), Stacks: len(c.order),
		CPU: cpu.Seconds(), Processes: len(c.procs), Lost: c.loss,
	}
	var sum time.Duration
	for _, t := range c.order {
		spent := t.stack.Time
		if c.cfg.Kind == triton.OnCPU {
			spent = time.Duration(t.stack.Count) * triton.StackPeriod
		}
		locations, named := b.stack(n, t)
		sample := &profile.Sample{Location: locations, Value: []int64{int64(t.stack.Count), spent.Nanoseconds()}}
		sample.NumLabel = map[string][]int64{"pid": {int64(t.stack.PID)}}
		if t.proc.comm != "" {
			sample.Label = map[string][]string{"process": {backtrace.Printable(t.proc.comm)}}
		}
		b.p.Sample = append(b.p.Sample, sample)
		s.Samples += t.stack.Count
		sum += spent
		if t.proc.gone && t.stack.Image != 0 {
			s.Gone += t.stack.Count
		}
		if !named {
			s.Unnamed += t.stack.Count
		}
	}
	s.Sampled = sum.Seconds()
	if n.skipped > 0 {
		n.failed = append(n.failed, fmt.Sprintf("%d more processes", n.skipped))
	}
	slices.Sort(n.failed)
	s.Missing = slices.Compact(n.failed)
	s.Missing = s.Missing[:min(len(s.Missing), maxMissing)]
	b.p.Comments = []string{fmt.Sprintf("container %s %s", s.Name, s.Container), s.String()}
	for _, why := range s.Missing {
		b.p.Comments = append(b.p.Comments, "names missing: "+why)
	}
	if err := b.p.CheckValid(); err != nil {
		return nil, fmt.Errorf("profile of %s: %w", c.cfg.Subject.Key, err)
	}
	return &Profile{Pprof: b.p, Summary: s}, nil
}

func (b *builder) types(kind triton.StackKind) {
	if kind == triton.OffCPU {
		b.p.SampleType = []*profile.ValueType{{Type: "waits", Unit: "count"}, {Type: "offcpu", Unit: "nanoseconds"}}
		b.p.PeriodType, b.p.Period = &profile.ValueType{Type: "offcpu", Unit: "nanoseconds"}, 1
		b.p.DefaultSampleType = "offcpu"
		return
	}
	b.p.SampleType = []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	b.p.PeriodType, b.p.Period = &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, triton.StackPeriod.Nanoseconds()
	b.p.DefaultSampleType = "cpu"
}

// stack returns the locations of a stack, innermost first, and whether the innermost has a name.
func (b *builder) stack(n *naming, t *tally) (out []*profile.Location, named bool) {
	names := make([]string, len(t.stack.Kernel))
	for i, pc := range t.stack.Kernel {
		names[i] = n.kernel[pc]
	}
	for _, name := range names[afterSwitch(names):] {
		named = named || len(out) == 0 && name != ""
		if name == "" {
			name = "[kernel]"
		}
		out = append(out, b.standIn("[kernel.kallsyms]", name))
	}
	switch {
	case t.stack.Image == 0: // a thread of the kernel, or one that is ending
	case t.stack.Unread:
		out = append(out, b.standIn("", "[no stack]"))
	case t.proc.gone:
		out = append(out, b.standIn("", "[gone]"))
	default:
		for i, pc := range t.stack.User {
			l, known := b.user(n, t.proc, lookup(pc, i))
			named = named || len(out) == 0 && known
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		out = append(out, b.standIn("", "[no stack]"))
	}
	return out, named
}

// afterSwitch is how many of the kernel's innermost functions are those that take a task off its CPU: they are the same in
// every stack that is taken there.
func afterSwitch(names []string) int {
	const within = 8
	for i, name := range names[:min(len(names), within)] {
		if strings.HasPrefix(name, "__schedule") {
			return i + 1
		}
	}
	return 0
}

// user is the location of an address in a process.
func (b *builder) user(n *naming, p *proc, at uint64) (l *profile.Location, known bool) {
	v, m, where, stands := n.user(p, at)
	if stands != "" {
		return b.standIn(m.Path, stands), false
	}
	key := locationKey{place: where}
	if l = b.locations[key]; l != nil {
		return l, true
	}
	l = b.location(key, m.Path)
	l.Mapping.BuildID = v.buildID
	for _, f := range v.frames {
		l.Address = f.Offset
		l.Line = append(l.Line, profile.Line{Function: b.function(f.Func, f.File), Line: int64(f.Line)})
	}
	return l, true
}

// standIn is the location of what has no address that may be told.
func (b *builder) standIn(file, name string) *profile.Location {
	key := locationKey{stands: file + "\x00" + name}
	if l := b.locations[key]; l != nil {
		return l
	}
	l := b.location(key, file)
	l.Line = []profile.Line{{Function: b.function(backtrace.Printable(name), "")}}
	return l
}

func (b *builder) location(key locationKey, file string) *profile.Location {
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Mapping: b.mapping(backtrace.Printable(file))}
	b.p.Location = append(b.p.Location, l)
	b.locations[key] = l
	return l
}

// mapping is that of a file. Its names are all that there are: nobody shall look for others in a file of that name elsewhere.
func (b *builder) mapping(file string) *profile.Mapping {
	if m := b.mappings[file]; m != nil {
		return m
	}
	m := &profile.Mapping{
		ID: uint64(len(b.p.Mapping) + 1), File: file, Limit: 1<<63 - 1,
		HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true,
	}
	b.p.Mapping = append(b.p.Mapping, m)
	b.mappings[file] = m
	return m
}

func (b *builder) function(name, file string) *profile.Function {
	key := [2]string{name, file}
	if f := b.functions[key]; f != nil {
		return f
	}
	f := &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: name, SystemName: name, Filename: file}
	b.p.Function = append(b.p.Function, f)
	b.functions[key] = f
	return f
}

// String is the summary in a line.
func (s Summary) String() string {
	text := fmt.Sprintf("%d samples of %d processes: %.2f s", s.Samples, s.Processes, s.Sampled)
	if s.CPU > 0 {
		text += fmt.Sprintf(", of %.2f s on CPUs by the kernel's count", s.CPU)
	}
	text += fmt.Sprintf("; %d lost", s.Lost.Counts)
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{s.Lost.Stacks, "stacks found no room"}, {s.Lost.Broken, "stacks could not be read"}, {s.Gone, "of processes that had ended"}, {s.Unnamed, "without a name"},
	} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return text
}
