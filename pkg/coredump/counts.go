package coredump

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Counts says what became of the crashes that the kernel handed over. A crash that it could not hand over, because more
// waited than the socket takes, is not known here: the kernel's log has it.
type Counts struct {
	// Saved are dumps with a record, by how much of the memory there is: BodyFull and so on. All are there, be they 0.
	Saved map[string]uint64
	// Cut are those of Saved that ended early, by reason: CutQuota and so on.
	Cut     map[string]uint64
	Lost    uint64 // should have been saved and have no record, or one that does not say all
	Refused uint64 // of containers that want none: PolicyLabel
	Foreign uint64 // of no container: handed to whom the pattern named before
	Counted uint64 // no more than that: their container had used up its time
	// Spent is the processor time that crashes of containers took.
	Spent time.Duration
}

// tally counts as Counts has it.
type tally struct {
	lost, refused, foreign atomic.Uint64

	mu          sync.Mutex
	bodies, cut map[string]uint64
}

func newTally() *tally {
	return &tally{
		bodies: map[string]uint64{BodyFull: 0, BodyTruncated: 0, BodyMini: 0, BodyNone: 0},
		cut:    map[string]uint64{CutQuota: 0, CutTime: 0, CutGone: 0, CutDisk: 0, CutRate: 0},
	}
}

func (t *tally) saved(r *Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bodies[r.Body]++
	if r.Cut != "" {
		t.cut[r.Cut]++
	}
}

func (t *tally) read() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Counts{
		Saved: maps.Clone(t.bodies), Cut: maps.Clone(t.cut),
		Lost: t.lost.Load(), Refused: t.refused.Load(), Foreign: t.foreign.Load(),
	}
}
