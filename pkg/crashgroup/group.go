package crashgroup

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Crash is what a group is told of one.
type Crash struct {
	Dump      string // its id: the same crash is counted once
	Container triton.ContainerKey
	Name      string // of the container
	Image     string
	ImageID   string
	Node      string
	At        time.Time
	Signal    string
	Comm      string
	Top       string   // where it happened, in a line
	Fuzzy     string   // the signature that makes the group; not empty
	Exact     string   // the signature of build ids and offsets
	Frames    []string // the functions that Fuzzy is of
	// OperatorOnly crashes are of setuid programs and the like: they form groups of their own, which tenants do not see.
	OperatorOnly bool
}

// ID is the group of c: 12 hex digits, the fuzzy signature itself unless only operators may see it.
func (c *Crash) ID() string {
	if !c.OperatorOnly {
		return c.Fuzzy
	}
	sum := sha256.Sum256([]byte("operator\n" + c.Fuzzy))
	return hex.EncodeToString(sum[:idLength/2])
}

// Group is the crashes of a tenant that are one bug.
type Group struct {
	ID           string        `json:"id"`
	Tenant       triton.Tenant `json:"tenant"`
	OperatorOnly bool          `json:"operatorOnly,omitempty"`
	// State is what the group is now. It follows from the rest and is not kept.
	State State `json:"state,omitempty"`

	Signal string   `json:"signal"`
	Frames []string `json:"frames"`
	Top    string   `json:"top"` // of the newest crash, as Comm is
	Comm   string   `json:"comm"`

	Count uint64 `json:"count"`
	// CountedOnly are those of Count that were not looked at but for their place, which is that of a crash of the group.
	CountedOnly uint64    `json:"countedOnly,omitempty"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`

	Exact      Tallies `json:"exact"`
	Images     Tallies `json:"images"` // each with its digest
	Containers Tallies `json:"containers"`
	Nodes      Tallies `json:"nodes"`

	// Resolved is set from when somebody says that the bug is no more until it is reopened; a regression leaves it.
	Resolved *Resolution `json:"resolved,omitempty"`
	// Regressed is the first crash that was not to be.
	Regressed *Regression `json:"regressed,omitempty"`

	// Counted are the newest dumps that were counted, so that none is twice.
	Counted []string `json:"counted,omitempty"`
}

// Resolution is that somebody said that a bug is no more.
type Resolution struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
	// Images are the digests that had crashed by then: their crashes are expected and make no regression.
	Images []string `json:"images"`
}

// Regression is a crash of a group that was resolved.
type Regression struct {
	At      time.Time `json:"at"`
	Dump    string    `json:"dump"`
	Image   string    `json:"image"`
	ImageID string    `json:"imageID"`
}

// State is what a group is.
type State string

// The states of groups.
const (
	StateNew       State = "new"       // first seen less than NewFor ago, and not resolved
	StateKnown     State = "known"     // older, and not resolved
	StateResolved  State = "resolved"  // since when nothing crashed but images that had before
	StateRegressed State = "regressed" // another image crashed after it was resolved
)

// States are all of them.
var States = []State{StateNew, StateKnown, StateResolved, StateRegressed}

// NewFor is how long after its first crash a group is new: a day and night, so that each shift sees it so once.
const NewFor = 24 * time.Hour

// at is the state at a time.
func (g *Group) at(now time.Time) State {
	switch {
	case g.Regressed != nil:
		return StateRegressed
	case g.Resolved != nil:
		return StateResolved
	case now.Sub(g.First) < NewFor:
		return StateNew
	}
	return StateKnown
}

const (
	idLength = 12
	// maxCounted is as many dumps as are told from new ones. A crash can come twice only while its dump is there and its
	// record does not say yet that it was counted.
	maxCounted = 256
	maxFrames  = 16
	maxText    = 512 // bytes of a text: names of functions may be anything
)

// add counts a crash; false: it was before.
func (g *Group) add(c *Crash) bool {
	if slices.Contains(g.Counted, c.Dump) {
		return false
	}
	if g.Count == 0 {
		g.Signal, g.First, g.Last = c.Signal, c.At, c.At
		for _, f := range c.Frames[:min(len(c.Frames), maxFrames)] {
			g.Frames = append(g.Frames, clip(f))
		}
	}
	if !c.At.Before(g.Last) {
		g.Last, g.Top, g.Comm = c.At, clip(c.Top), clip(c.Comm)
	}
	if c.At.Before(g.First) {
		g.First = c.At
	}
	g.tally(c, 1)
	g.Counted = append(g.Counted, c.Dump)
	g.Counted = g.Counted[max(0, len(g.Counted)-maxCounted):]
	if r := g.Resolved; r != nil && g.Regressed == nil && c.At.After(r.At) && !slices.Contains(r.Images, c.ImageID) {
		g.Regressed = &Regression{At: c.At, Dump: c.Dump, Image: clip(c.Image), ImageID: c.ImageID}
	}
	return true
}

// tally counts crashes that are like c, the last of which was then.
func (g *Group) tally(c *Crash, n uint64) {
	g.Count += n
	g.Exact.add(c.Exact, "", c.At, n)
	g.Images.add(c.Image, c.ImageID, c.At, n)
	g.Containers.add(c.Name, "", c.At, n)
	g.Nodes.add(c.Node, "", c.At, n)
	if c.At.After(g.Last) {
		g.Last = c.At
	}
}

func (g *Group) resolve(by string, now time.Time) {
	r := &Resolution{At: now.UTC(), By: clip(by), Images: []string{}}
	expect := func(id string) {
		if len(r.Images) < maxExpected && !slices.Contains(r.Images, id) {
			r.Images = append(r.Images, id)
		}
	}
	for _, i := range g.Images.Seen {
		expect(i.ID)
	}
	if g.Resolved != nil { // what was expected once still is
		for _, id := range g.Resolved.Images {
			expect(id)
		}
	}
	g.Resolved, g.Regressed = r, nil
}

// maxExpected bounds the digests of a Resolution.
const maxExpected = 4 * maxTallies

// Tally is how often something was seen, and when.
type Tally struct {
	Name  string    `json:"name"`
	ID    string    `json:"id,omitempty"` // an image's digest
	Count uint64    `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Tallies are the maxTallies that were seen last, in order of their last time, newest first.
type Tallies struct {
	Seen []Tally `json:"seen"`
	// Others counts the crashes of those that found no place.
	Others uint64 `json:"others,omitempty"`
}

// maxTallies bounds what is told apart within a group.
const maxTallies = 64

func (t *Tallies) add(name, id string, at time.Time, n uint64) {
	name = clip(name)
	i := slices.IndexFunc(t.Seen, func(s Tally) bool { return s.Name == name && s.ID == id })
	if i < 0 {
		i = len(t.Seen)
		t.Seen = append(t.Seen, Tally{Name: name, ID: id, First: at, Last: at})
	}
	s := &t.Seen[i]
	s.Count += n
	if at.After(s.Last) {
		s.Last = at
	}
	if at.Before(s.First) {
		s.First = at
	}
	slices.SortStableFunc(t.Seen, func(a, b Tally) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Name, b.Name)) })
	for ; len(t.Seen) > maxTallies; t.Seen = t.Seen[:maxTallies] {
		t.Others += t.Seen[maxTallies].Count
	}
}

// clip bounds a text that a container may have chosen.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
