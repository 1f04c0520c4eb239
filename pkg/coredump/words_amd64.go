package coredump

import "golang.org/x/sys/cpu"

// packWide is packWords of so many blocks, at least one, for processors with AVX2. lanes is wordLanes.
//
//go:noescape
func packWide(dst, src *byte, blocks int, lanes *[16][8]uint32) int

// hasWide says that the processor has what packWide takes.
var hasWide = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT

// wordLanes is for each mask of four words the order in which a permutation of their halves puts those of the mask first.
var wordLanes = func() (lanes [16][8]uint32) {
	for mask := range lanes {
		n := 0
		for word := range uint32(4) {
			if mask>>word&1 != 0 {
				lanes[mask][n], lanes[mask][n+1] = 2*word, 2*word+1
				n += 2
			}
		}
	}
	return lanes
}()
