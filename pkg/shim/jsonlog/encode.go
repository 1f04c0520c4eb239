package jsonlog

import (
	"bytes"
	"math"
	"time"
	"unicode/utf8"
)

// MaxLine is the most output bytes one record holds, as in docker (moby daemon/logger/copier.go, defaultBufSize).
const MaxLine = 16 << 10

// Encode appends to dst the records of as much of data as forms whole lines, or full pieces of MaxLine bytes of a
// longer line (a piece never ends inside a UTF-8 sequence), all stamped now. What remains, data[used:], is shorter than
// MaxLine and belongs before the output that comes next; final says that none will come, so that nothing remains.
func Encode(dst, data []byte, stream string, now time.Time, final bool) (out []byte, used, records int) {
	return EncodeUpTo(math.MaxInt, dst, data, stream, now, final)
}

// EncodeUpTo is Encode, but stops after the record that reaches limit bytes of out: a log that is rotated at a size
// takes output in portions that fit.
func EncodeUpTo(limit int, dst, data []byte, stream string, now time.Time, final bool) (out []byte, used, records int) {
	tail := make([]byte, 0, 80)
	tail = append(tail, `","stream":"`...)
	tail = appendEscaped(tail, []byte(stream))
	tail = append(tail, `","time":"`...)
	tail = now.UTC().AppendFormat(tail, time.RFC3339Nano)
	tail = append(tail, "\"}\n"...)
	for used < len(data) && len(dst) < limit {
		n := pieceLen(data[used:], final)
		if n == 0 {
			break
		}
		dst = append(dst, `{"log":"`...)
		dst = appendEscaped(dst, data[used:used+n])
		dst = append(dst, tail...)
		used += n
		records++
	}
	return dst, used, records
}

// pieceLen returns how many bytes of data the next record holds; 0: not enough has come yet.
func pieceLen(data []byte, final bool) int {
	window := data[:min(len(data), MaxLine)]
	if i := bytes.IndexByte(window, '\n'); i >= 0 {
		return i + 1
	}
	if len(data) < MaxLine {
		if final {
			return len(data)
		}
		return 0
	}
	return wholeRunes(window)
}

// wholeRunes returns the length of window less a UTF-8 sequence that its end cuts. Bytes that are no UTF-8 stay.
func wholeRunes(window []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(window); back++ {
		c := window[len(window)-back]
		if !utf8.RuneStart(c) {
			continue
		}
		if c >= utf8.RuneSelf && !utf8.FullRune(window[len(window)-back:]) {
			return len(window) - back
		}
		break
	}
	return len(window)
}

const hexDigits = "0123456789abcdef"

// plain marks the bytes that stand for themselves in a JSON string as encoding/json writes it (HTML escaping on).
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return t
}()

// appendEscaped appends s as the inside of a JSON string, byte for byte as encoding/json does: invalid UTF-8 becomes
// \ufffd, one for each byte.
func appendEscaped(dst, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			dst = append(dst, s[start:i]...)
			dst = appendEscapedByte(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xf])
		default:
			i += size
			continue
		}
		i += size
		start = i
	}
	return append(dst, s[start:]...)
}

func appendEscapedByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
