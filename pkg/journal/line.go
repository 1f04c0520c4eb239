package journal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/tritond/triton/pkg/triton"
)

// A line is
//
//	CCCCCCCC SEQ TIME JSON\n
//
// CCCCCCCC: CRC-32C, eight hexadecimal digits, of all that follows its space up to the newline; SEQ: the sequence
// number; TIME: Unix nanoseconds, both decimal; JSON: the triton.Event. Number and time stand before the JSON, so that
// a reader who looks for others skips a line without decoding it.
type line struct {
	seq  uint64
	time int64
	json []byte // part of the buffer it was parsed from
}

const crcDigits = 8

// castagnoli is read-only; processors have an instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(e triton.Event) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	body := fmt.Appendf(nil, "%d %d %s", e.Seq, e.Time.UnixNano(), data)
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(body, castagnoli), body), nil
}

var errBadLine = errors.New("damaged line")

// parse checks raw, a line without its newline, and takes it apart.
func parse(raw []byte) (line, error) {
	if len(raw) < crcDigits+1 || raw[crcDigits] != ' ' {
		return line{}, errBadLine
	}
	var want [crcDigits / 2]byte
	if _, err := hex.Decode(want[:], raw[:crcDigits]); err != nil {
		return line{}, errBadLine
	}
	body := raw[crcDigits+1:]
	if sum := crc32.Checksum(body, castagnoli); want != [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)} {
		return line{}, errBadLine
	}
	seq, rest, ok := bytes.Cut(body, []byte{' '})
	at, data, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok || !ok2 {
		return line{}, errBadLine
	}
	var l line
	var err error
	if l.seq, err = strconv.ParseUint(string(seq), 10, 64); err != nil || l.seq == 0 {
		return line{}, errBadLine
	}
	if l.time, err = strconv.ParseInt(string(at), 10, 64); err != nil {
		return line{}, errBadLine
	}
	l.json = data
	return l, nil
}

// event decodes the JSON. It must tell the same number as the line.
func (l line) event() (triton.Event, error) {
	var e triton.Event
	if err := json.Unmarshal(l.json, &e); err != nil || e.Seq != l.seq {
		return triton.Event{}, errBadLine
	}
	return e, nil
}
