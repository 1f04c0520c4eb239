package jsonlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// maxRecord bounds a line of the file: MaxLine bytes escape to at most six times as many, and what other writers add
// (attributes, tags) is short. A longer line is corrupt.
const maxRecord = 1 << 20

// decoder turns lines into records. Its buffer is reused, so a record is valid until the next call.
type decoder struct {
	line []byte
}

// decode reads one line of the file, without its newline.
func (d *decoder) decode(raw []byte) (triton.LogRecord, error) {
	if rec, ok := d.fast(raw); ok {
		return rec, nil
	}
	var v struct {
		Log    *string   `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return triton.LogRecord{}, fmt.Errorf("log record: %w", err)
	}
	if v.Log == nil || v.Stream != "stdout" && v.Stream != "stderr" {
		return triton.LogRecord{}, fmt.Errorf("log record: no text or stream")
	}
	d.line = append(d.line[:0], *v.Log...)
	return triton.LogRecord{Stream: v.Stream, Time: v.Time, Line: d.line}, nil
}

var (
	recordHead   = []byte(`{"log":"`)
	recordStream = []byte(`","stream":"`)
	recordTime   = []byte(`","time":"`)
	recordEnd    = []byte(`"}`)
)

// fast reads the form that Encode and docker write; false: ask encoding/json, which takes every form.
func (d *decoder) fast(raw []byte) (rec triton.LogRecord, ok bool) {
	rest, ok := bytes.CutPrefix(raw, recordHead)
	if !ok {
		return rec, false
	}
	if rest, ok = d.unescape(rest); !ok {
		return rec, false
	}
	if rest, ok = bytes.CutPrefix(rest, recordStream); !ok {
		return rec, false
	}
	const nameLen = len("stdout")
	if len(rest) < nameLen {
		return rec, false
	}
	switch string(rest[:nameLen]) {
	case "stdout":
		rec.Stream = "stdout"
	case "stderr":
		rec.Stream = "stderr"
	default:
		return rec, false
	}
	if rest, ok = bytes.CutPrefix(rest[nameLen:], recordTime); !ok {
		return rec, false
	}
	stamp, ok := bytes.CutSuffix(rest, recordEnd)
	if !ok || rec.Time.UnmarshalText(stamp) != nil {
		return rec, false
	}
	rec.Line = d.line
	return rec, true
}

// unescape decodes a JSON string up to its closing quote, from which the rest begins. It gives up on escapes that
// Encode does not write, and on text that encoding/json would alter.
func (d *decoder) unescape(s []byte) (rest []byte, ok bool) {
	out := d.line[:0]
	defer func() { d.line = out }()
	for {
		i := bytes.IndexAny(s, `"\`)
		if i < 0 || !cleanText(s[:i]) {
			return nil, false
		}
		out = append(out, s[:i]...)
		if s[i] == '"' {
			return s[i:], true
		}
		if len(s) < i+2 {
			return nil, false
		}
		switch c := s[i+1]; c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			return nil, false
		}
		s = s[i+2:]
	}
}

// cleanText reports whether encoding/json takes s inside a string as it is: ASCII without control characters. Other
// text goes the slow way.
func cleanText(s []byte) bool {
	for _, c := range s {
		if c < 0x20 || c >= 0x80 {
			return false
		}
	}
	return true
}
