package cgroup

import (
	"bytes"
	"math"
	"time"
)

// The parsers below read the kernel's small text files in place. Lines they do not understand are passed over, numbers
// that do not fit stay at the largest value: a new kernel must not break a reading.

// lines iterates over the "key value" lines of rest: after next reported true, key and value are the line's.
type lines struct {
	rest  []byte
	key   []byte
	value uint64
}

func (s *lines) next() bool {
	for len(s.rest) > 0 {
		var l []byte
		l, s.rest = cutLine(s.rest)
		var ok bool
		if s.key, s.value, ok = keyValue(l); ok {
			return true
		}
	}
	return false
}

// number reads a file that holds one number. "max" and anything else is 0: no limit.
func number(b []byte) uint64 {
	v, _ := digits(bytes.TrimSpace(b))
	return v
}

// field returns the value of one key of "key value" lines, 0 when it lacks.
func field(b []byte, key string) uint64 {
	for s := (lines{rest: b}); s.next(); {
		if string(s.key) == key {
			return s.value
		}
	}
	return 0
}

// pressure reads a PSI file (Documentation/accounting/psi.rst): the total= fields of the some and full lines, which are
// in microseconds.
func pressure(b []byte) (some, full time.Duration) {
	for len(b) > 0 {
		var l []byte
		l, b = cutLine(b)
		_, total, ok := bytes.Cut(l, []byte("total="))
		if !ok {
			continue
		}
		v, _ := digits(total)
		switch {
		case bytes.HasPrefix(l, []byte("some ")):
			some = micros(v)
		case bytes.HasPrefix(l, []byte("full ")):
			full = micros(v)
		}
	}
	return some, full
}

func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func keyValue(l []byte) (key []byte, value uint64, ok bool) {
	i := bytes.IndexByte(l, ' ')
	if i <= 0 {
		return nil, 0, false
	}
	value, ok = digits(l[i+1:])
	return l[:i], value, ok
}

// digits reads the decimal number at the start of b; ok tells whether there is one.
func digits(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		d := uint64(c - '0')
		if v > (math.MaxUint64-d)/10 {
			return math.MaxUint64, true
		}
		v, ok = v*10+d, true
	}
	return v, ok
}
