package sched

import (
	"cmp"
	"hash/fnv"

	"github.com/google/btree"
)

// index keeps the nodes in the order of their level: what a node costs before a request is looked at. The best nodes are
// found without looking at all; a change costs O(log nodes). Ties go to the node that was assigned to longest ago, then to
// a hash of seed and name: the order never depends on the order in which nodes were told of.
type index struct {
	tree *btree.BTreeG[rank]
	rank []rank // of node n, as it is in the tree
	in   []bool
}

// rank orders the index.
type rank struct {
	level  float32
	n      int32
	placed uint64
	hash   uint64
}

func (a rank) less(b rank) bool {
	if a.level != b.level {
		return a.level < b.level
	}
	if a.placed != b.placed {
		return a.placed < b.placed
	}
	if a.hash != b.hash {
		return a.hash < b.hash
	}
	return cmp.Less(a.n, b.n)
}

// indexDegree of the B-tree: 24-byte entries, two cache lines to a third of a node.
const indexDegree = 16

func newIndex() index { return index{tree: btree.NewG(indexDegree, rank.less)} }

func (x *index) grow() {
	x.rank = append(x.rank, rank{})
	x.in = append(x.in, false)
}

func (x *index) put(r rank) {
	if x.in[r.n] {
		if x.rank[r.n] == r {
			return
		}
		x.tree.Delete(x.rank[r.n])
	}
	x.rank[r.n], x.in[r.n] = r, true
	x.tree.ReplaceOrInsert(r)
}

func (x *index) drop(n int32) {
	if x.in[n] {
		x.tree.Delete(x.rank[n])
		x.in[n] = false
	}
}

// walk calls f for each node, best first (or last first), until f returns false.
func (x *index) walk(down bool, f func(n int32) bool) {
	step := func(r rank) bool { return f(r.n) }
	if down {
		x.tree.Descend(step)
		return
	}
	x.tree.Ascend(step)
}

// nameHash decides between equals.
func nameHash(seed uint64, name string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(seed >> (8 * i))
	}
	h.Write(b[:])
	h.Write([]byte(name))
	return h.Sum64()
}
