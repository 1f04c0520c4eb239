package telemetry

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// packed is a sample as windows keep it: its numbers in turn, each in as many bytes as it needs (encoding/binary's varints),
// which is a third of their size. What CPU readings are made of comes first; heats may follow.
type packed []byte

// Flags that a packed sample begins with.
const (
	packedNoCalls   = 1 << iota
	packedEstimated // CallsEstimated
	packedUsageRead // Usage has a time
)

// pack keeps of a sample what windows keep, without histograms.
func pack(s *Sample) packed {
	var flags uint64
	if s.NoCalls {
		flags |= packedNoCalls
	}
	if s.CallsEstimated {
		flags |= packedEstimated
	}
	var after int64 // the cgroups are read at a moment of their own, close to the sample's
	if !s.Usage.Time.IsZero() {
		flags |= packedUsageRead
		after = s.Usage.Time.UnixNano() - s.Time.UnixNano()
	}
	p := packer{b: make([]byte, 0, 512), writes: true}
	number(&p, &flags)
	at := s.Time.UnixNano()
	number(&p, &at)
	p.b = binary.AppendVarint(p.b, after)
	p.numbers(s)
	return p.b
}

// unpack is the other way; rest is what follows.
func (b packed) unpack() (s Sample, rest packed) {
	p := b.begin(&s)
	p.numbers(&s)
	return s, p.b
}

// cpu reads the beginning only.
func (b packed) cpu() CPUReading {
	var s Sample
	p := b.begin(&s)
	number(&p, &s.Usage.CPUTotal)
	return CPUReading{Time: s.Time, At: s.Usage.Time, Used: s.Usage.CPUTotal}
}

// begin reads flags and times.
func (b packed) begin(s *Sample) packer {
	p := packer{b: b}
	var flags uint64
	var at int64
	number(&p, &flags)
	number(&p, &at)
	after, n := binary.Varint(p.b)
	p.b = p.b[n:]
	s.Time = time.Unix(0, at)
	s.NoCalls, s.CallsEstimated = flags&packedNoCalls != 0, flags&packedEstimated != 0
	if flags&packedUsageRead != 0 {
		s.Usage.Time = time.Unix(0, at+after)
	}
	return p
}

// packer goes through numbers, writing or reading all of them.
type packer struct {
	b      []byte
	writes bool
}

func number[T ~int64 | ~uint64](p *packer, v *T) {
	if p.writes {
		p.b = binary.AppendUvarint(p.b, uint64(*v))
		return
	}
	x, n := binary.Uvarint(p.b)
	p.b, *v = p.b[n:], T(x)
}

// numbers goes through those that windows keep of a sample.
func (p *packer) numbers(s *Sample) {
	u, c := &s.Usage, &s.Counters
	for _, v := range []*time.Duration{
		&u.CPUTotal, &u.CPUUser, &u.CPUSystem, &u.CPUThrottledTime,
		&u.Pressure.CPUSome, &u.Pressure.CPUFull, &u.Pressure.MemorySome, &u.Pressure.MemoryFull, &u.Pressure.IOSome, &u.Pressure.IOFull,
	} {
		number(p, v)
	}
	for _, v := range []*uint64{
		&u.CPUPeriods, &u.CPUThrottled, &u.MemoryUsage, &u.MemoryWorkingSet, &u.MemoryRSS, &u.MemoryCache, &u.MemoryPeak, &u.MemoryLimit,
		&u.OOMKills, &u.Pids, &u.PidsLimit,
		&c.Syscalls, &c.SyscallErrors, &c.Execs, &c.Exits, &c.Forks, &c.FatalSignals, &c.OOMKills, &c.RunQueueNs,
		&c.Dropped.Ring, &c.Dropped.Cells, &c.Dropped.Storage, &c.Dropped.Threads,
		&s.Network.RxBytes, &s.Network.RxPackets, &s.Network.RxDropped, &s.Network.TxBytes, &s.Network.TxPackets, &s.Network.TxDropped,
		&s.Block.Reads, &s.Block.Writes, &s.Block.ReadBytes, &s.Block.WriteBytes,
	} {
		number(p, v)
	}
}

// The heatmap that a window keeps: schema 0, 2^-24 to 2^12 seconds, what the probes measure.
const (
	heatFirst   = -24
	heatBuckets = 37
)

// packHeat appends a histogram, coarsened to the window's buckets, without its empty ends.
func (b packed) packHeat(h triton.Histogram) packed {
	kept := triton.Histogram{Counts: make([]uint64, heatBuckets)}
	h = h.Coarsen(0)
	for i, n := range h.Counts {
		at := min(max(int(h.First)+i-heatFirst, 0), heatBuckets-1)
		kept.Counts[at] = min(kept.Counts[at]+min(n, math.MaxUint32), math.MaxUint32) // in a second: more is not believed
	}
	kept = kept.Trim()
	b = append(b, byte(kept.First), byte(len(kept.Counts)))
	for _, n := range kept.Counts {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// unpackHeat is the other way.
func (b packed) unpackHeat() (h triton.Histogram, rest packed) {
	h = triton.Histogram{Schema: 0, First: heatFirst, Counts: make([]uint64, heatBuckets)}
	skip, n := int(b[0]), int(b[1])
	b = b[2:]
	for i := range n {
		count, size := binary.Uvarint(b)
		h.Counts[skip+i], b = count, b[size:]
	}
	return h, b
}
