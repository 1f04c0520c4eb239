package profile

import (
	"cmp"
	"slices"
)

// Flame is a function in a tree of calls, from the outermost; the root is all of a profile.
type Flame struct {
	Name  string   `json:"name"`
	Value int64    `json:"value"` // nanoseconds, those of Calls included
	Calls []*Flame `json:"calls,omitempty"`
}

const (
	// flameShare is the part of a profile below which a function is left out: less than a pixel of a screen.
	flameShare = 2000
	maxFlame   = 20_000 // functions
)

// Flame returns the tree of calls, the largest first. What is too small to be seen is left out, so that a function may have
// more than its calls and itself.
func (p *Profile) Flame() *Flame {
	root := &Flame{Name: "all"}
	index := map[*Flame]map[string]*Flame{}
	made := 0
	for _, s := range p.Pprof.Sample {
		v := s.Value[len(s.Value)-1]
		root.Value += v
		at := root
		for _, l := range slices.Backward(s.Location) {
			for _, line := range slices.Backward(l.Line) {
				next := index[at][line.Function.Name]
				if next == nil {
					if made == maxFlame {
						continue // its callers have its time
					}
					made++
					next = &Flame{Name: line.Function.Name}
					if index[at] == nil {
						index[at] = map[string]*Flame{}
					}
					index[at][next.Name] = next
					at.Calls = append(at.Calls, next)
				}
				next.Value += v
				at = next
			}
		}
	}
	root.prune(root.Value / flameShare)
	return root
}

// prune leaves out what is below least, and sorts.
func (f *Flame) prune(least int64) {
	f.Calls = slices.DeleteFunc(f.Calls, func(c *Flame) bool { return c.Value < least })
	slices.SortFunc(f.Calls, func(a, b *Flame) int { return cmp.Or(cmp.Compare(b.Value, a.Value), cmp.Compare(a.Name, b.Name)) })
	for _, c := range f.Calls {
		c.prune(least)
	}
}
