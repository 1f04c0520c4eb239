package dockerapi

import (
	"io"
	"strings"
)

// defaultDetachKeys is ctrl-p, ctrl-q.
var defaultDetachKeys = []byte{'p' - 'a' + 1, 'q' - 'a' + 1}

// parseDetachKeys reads docker's notation: single characters and ctrl-X, separated by commas. Empty: the default.
func parseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		return defaultDetachKeys, nil
	}
	var keys []byte
	for _, word := range strings.Split(text, ",") {
		key, ok := detachKey(word)
		if !ok {
			return nil, invalid("Invalid detach keys (%s) provided", text)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func detachKey(word string) (byte, bool) {
	if len(word) == 1 {
		return word[0], true
	}
	c, ok := strings.CutPrefix(word, "ctrl-")
	if !ok || len(c) != 1 {
		return 0, false
	}
	switch {
	case c[0] >= 'a' && c[0] <= 'z':
		return c[0] - 'a' + 1, true
	case c[0] == '@':
		return 0, true
	case c[0] >= '[' && c[0] <= '_': // [ \ ] ^ _
		return c[0] - '[' + 27, true
	}
	return 0, false
}

// detachReader passes bytes on until it has seen the keys in a row: then it returns ErrDetached, and the keys are never
// passed. Keys that turn out to be the start of something else are passed on, in their place.
type detachReader struct {
	src     io.Reader
	keys    []byte
	matched int    // how many of keys are held back
	pending []byte // ready to be passed on
	err     error  // to return once pending is empty
}

func newDetachReader(src io.Reader, keys []byte) *detachReader {
	return &detachReader{src: src, keys: keys}
}

func (d *detachReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.pending) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.src.Read(p)
		d.scan(p[:n])
		if d.err == nil && err != nil {
			d.err = err
			d.release(d.matched)
		}
	}
	n := copy(p, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

// scan moves input to pending, less what may be the beginning of the keys.
func (d *detachReader) scan(input []byte) {
	for _, b := range input {
		for d.matched > 0 && b != d.keys[d.matched] {
			d.fallBack()
		}
		if b != d.keys[d.matched] {
			d.pending = append(d.pending, b)
			continue
		}
		if d.matched++; d.matched == len(d.keys) {
			d.matched, d.err = 0, ErrDetached
			return
		}
	}
}

// fallBack gives up the longest match for the next shorter one that its end allows: of "a,a,b" held as "a,a", another a
// still leaves "a,a".
func (d *detachReader) fallBack() {
	for k := d.matched - 1; k >= 0; k-- {
		if string(d.keys[:k]) == string(d.keys[d.matched-k:d.matched]) {
			d.release(d.matched - k)
			return
		}
	}
}

func (d *detachReader) release(n int) {
	d.pending = append(d.pending, d.keys[:n]...)
	d.matched -= n
}
