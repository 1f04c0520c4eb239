package coredump

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unsafe"
)

// The words of a window without those that are zero: of each 64 words of eight bytes a bitmap, the lowest bit for the first
// of them, and then those whose bits are set. It is what costs next to nothing while a process is held: half of the words
// of a heap are zero, and most of what a process touched and did not fill.
const (
	wordsBlock = 64 * 8
	// maxBlock is what a block without zero words takes.
	maxBlock = 8 + wordsBlock
)

// errWords says that bytes are no packed words.
var errWords = errors.New("packed words are damaged")

// maxWords is the room that packing n bytes takes at most: what comes of it, and what is written after it.
func maxWords(n int) int {
	const over = 3 * 8
	return n/wordsBlock*maxBlock + over
}

// packWords packs src, whose length is a multiple of wordsBlock, into dst, which has room for maxWords, and returns what it
// took of it: an eighth of wordsBlock's part if all of src is zero.
func packWords(dst, src []byte) []byte {
	blocks := len(src) / wordsBlock
	if !hasWide || blocks == 0 || len(dst) < maxWords(len(src)) {
		return packNarrow(dst, src)
	}
	return dst[:packWide(&dst[0], &src[0], blocks, &wordLanes)]
}

// packNarrow is packWords for any processor.
func packNarrow(dst, src []byte) []byte {
	at := 0
	for ; len(src) >= wordsBlock; src = src[wordsBlock:] {
		// As arrays of words: twice as quick as by encoding/binary. x86-64 reads and writes them at any address, in this order.
		in, out := (*[wordsBlock / 8]uint64)(unsafe.Pointer(&src[0])), (*[maxBlock / 8]uint64)(unsafe.Pointer(&dst[at:][:maxBlock][0]))
		var set uint64
		n := uint64(1)
		for i, w := range in {
			if n >= uint64(len(out)) {
				break // never: it tells the compiler that n is within bounds
			}
			out[n] = w            // the next word overwrites a zero
			bit := (w | -w) >> 63 // 1 if w is not zero, without a branch
			set |= bit << (i & 63)
			n += bit
		}
		out[0] = set
		at += 8 * int(n)
	}
	return dst[:at]
}

// unpackWords is the reverse of packWords; dst has exactly the length of what was packed.
func unpackWords(dst, src []byte) error {
	for ; len(dst) >= wordsBlock; dst = dst[wordsBlock:] {
		if len(src) < 8 {
			return errWords
		}
		set := binary.LittleEndian.Uint64(src)
		src = src[8:]
		if len(src) < 8*bits.OnesCount64(set) {
			return errWords
		}
		clear(dst[:wordsBlock])
		for ; set != 0; set &= set - 1 {
			copy(dst[8*bits.TrailingZeros64(set):][:8], src)
			src = src[8:]
		}
	}
	if len(dst) > 0 || len(src) > 0 {
		return errWords
	}
	return nil
}
