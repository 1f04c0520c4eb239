package node

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/triton"
)

// Toll is what was counted since the daemon started: only what happened is there.
type Toll struct {
	Deaths  map[string]uint64 // abnormal ends, by death.Record.Cause
	Crashes map[string]uint64 // processes that left a dump, by the state of their group, or CrashAlone
}

// CrashAlone is counted of a crash that has no group: its stacks could not be read.
const CrashAlone = "none"

// ContainerToll is that of a container that is there.
type ContainerToll struct {
	Key         triton.ContainerKey
	Name, Image string
	Toll
}

// tolls are those of the tenants: what their removed containers had is in them too.
type tolls struct {
	mu sync.Mutex
	of map[triton.Tenant]Toll
}

func (t *Toll) countDeath(cause string) {
	if t.Deaths == nil {
		t.Deaths = map[string]uint64{}
	}
	t.Deaths[cause]++
}

func (t *Toll) countCrash(state string) {
	if t.Crashes == nil {
		t.Crashes = map[string]uint64{}
	}
	t.Crashes[state]++
}

func (t Toll) clone() Toll { return Toll{maps.Clone(t.Deaths), maps.Clone(t.Crashes)} }

// count changes the toll of a tenant and, unless it is gone (nil), of a container.
func (n *Node) count(tenant triton.Tenant, c *container, how func(*Toll)) {
	n.tolls.mu.Lock()
	if n.tolls.of == nil {
		n.tolls.of = map[triton.Tenant]Toll{}
	}
	t := n.tolls.of[tenant]
	how(&t)
	n.tolls.of[tenant] = t
	n.tolls.mu.Unlock()
	if c != nil {
		c.mu.Lock()
		how(&c.toll)
		c.mu.Unlock()
	}
}

func (n *Node) countDeath(c *container, r *death.Record) {
	n.count(c.key.Tenant, c, func(t *Toll) { t.countDeath(string(r.Cause())) })
}

// Tolls returns those of all tenants, and of the containers that are there and have one, in order of id.
func (n *Node) Tolls() (map[triton.Tenant]Toll, []ContainerToll) {
	n.tolls.mu.Lock()
	tenants := map[triton.Tenant]Toll{}
	for tenant, t := range n.tolls.of {
		tenants[tenant] = t.clone()
	}
	n.tolls.mu.Unlock()
	var out []ContainerToll
	for _, c := range n.all() {
		c.mu.Lock()
		if len(c.toll.Deaths)+len(c.toll.Crashes) > 0 {
			out = append(out, ContainerToll{c.key, c.rec.Name, c.rec.Spec.Image, c.toll.clone()})
		}
		c.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b ContainerToll) int { return cmp.Compare(a.Key.ID, b.Key.ID) })
	return tenants, out
}
