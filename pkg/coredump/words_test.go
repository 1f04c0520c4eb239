package coredump

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestPackedWordsAreTheSameWords(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, filled := range []float64{0, 0.01, 0.5, 0.99, 1} {
		plain := make([]byte, 16*wordsBlock)
		for at := 0; at < len(plain); at += 8 {
			if r.Float64() < filled {
				binary.LittleEndian.PutUint64(plain[at:], r.Uint64())
			}
		}
		packed := packWords(make([]byte, maxWords(len(plain))), plain)
		zeroes := 0
		for at := 0; at < len(plain); at += 8 {
			if binary.LittleEndian.Uint64(plain[at:]) == 0 {
				zeroes++
			}
		}
		if want := len(plain) + len(plain)/64 - 8*zeroes; len(packed) != want {
			t.Errorf("%d bytes with %d zero words of %d: want %d", len(packed), zeroes, len(plain)/8, want)
		}
		back := bytes.Repeat([]byte{0xff}, len(plain))
		if err := unpackWords(back, packed); err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%v: unpacked to something else, %v", filled, err)
		}
		if unpackWords(back, packed[:len(packed)-1]) == nil || unpackWords(back, append(bytes.Clone(packed), 0)) == nil {
			t.Errorf("%v: too few or too many bytes are no error", filled)
		}
	}
}

// The words that were left out are told from others by their bits alone.
func FuzzUnpackWords(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, b []byte) {
		plain := make([]byte, 2*wordsBlock)
		if unpackWords(plain, b) != nil {
			return
		}
		// What has zero words among those that are said to be others is longer than need be, and the same.
		again := make([]byte, len(plain))
		if err := unpackWords(again, packWords(make([]byte, maxWords(len(plain))), plain)); err != nil || !bytes.Equal(plain, again) {
			t.Errorf("%x is %x once and %x again, %v", b, plain, again, err)
		}
	})
}

// Both ways to pack make the same bytes of all patterns of zero words, and write no further than they say.
func TestWordsArePackedAlike(t *testing.T) {
	if !hasWide {
		t.Log("this processor has only one of them")
	}
	r := rand.New(rand.NewPCG(5, 6))
	for blocks := range 5 {
		for range 300 {
			plain := make([]byte, blocks*wordsBlock)
			filled := r.Float64() * r.Float64()
			for at := 0; at < len(plain); at += 8 {
				if r.Float64() < filled {
					plain[at+r.IntN(8)] = byte(1 + r.IntN(255))
				}
			}
			const mark = 0xa5
			room := bytes.Repeat([]byte{mark}, maxWords(len(plain))+8)
			got := packWords(room[:len(room)-8], plain)
			if want := packNarrow(make([]byte, maxWords(len(plain))), plain); !bytes.Equal(got, want) {
				t.Fatalf("%d blocks are %d bytes, %d by the other way\n%x\n%x", blocks, len(got), len(want), got, want)
			}
			if !bytes.Equal(room[len(room)-8:], bytes.Repeat([]byte{mark}, 8)) {
				t.Fatalf("%d blocks are written beyond their room", blocks)
			}
		}
	}
}

func BenchmarkPackWords(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, zeroes := range map[string]uint64{"none": 0, "half": 2, "three": 3} {
		plain := make([]byte, window)
		for i := 0; i < len(plain); i += 8 {
			if uint64(i/8%4) >= zeroes {
				binary.LittleEndian.PutUint64(plain[i:], r.Uint64())
			}
		}
		dst := make([]byte, maxWords(window))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(window)
			for b.Loop() {
				packWords(dst, plain)
			}
		})
	}
}
