package journal

import (
	"bufio"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// recover finds the segments, looks through each and opens the last one for writing.
func (j *Journal) recover() error {
	firsts, err := j.listSegments()
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if err := j.scan(first); err != nil {
			return err
		}
	}
	if len(j.segments) == 0 {
		j.segments = []segment{{first: j.next, last: j.next - 1}}
	}
	if err := j.dropOldest(j.cfg.Segments); err != nil {
		return err
	}
	cur := j.segments[len(j.segments)-1]
	if j.file, err = j.create(cur.first); err != nil {
		return err
	}
	return j.cutTail(cur.size)
}

// listSegments returns the first numbers of all files, in order. Files of other names are left alone.
func (j *Journal) listSegments() ([]uint64, error) {
	entries, err := os.ReadDir(j.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		if first, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && first > 0 {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// scan takes one file into the list. Numbers never go back: a damaged line has used one too, and a file's name tells
// one that was next when it was made.
func (j *Journal) scan(first uint64) error {
	file, err := os.Open(j.path(first))
	if err != nil {
		return err
	}
	defer file.Close()
	seg := segment{first: first, last: first - 1}
	valid, damaged := max(j.next, first)-1, uint64(0) // last number seen, lines damaged since
	lines := newLines(file, j.cfg.SegmentSize/maxLineShare)
	for {
		raw, length, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if l, err := parse(raw); err == nil && l.seq > valid {
			seg.add(l.seq, l.time, length)
			valid, damaged = l.seq, 0
			continue
		}
		j.stats.Corrupt++
		damaged++
		seg.size += length
	}
	j.next = valid + damaged + 1
	j.segments = append(j.segments, seg)
	return nil
}

// cutTail removes what lies after the last whole line.
func (j *Journal) cutTail(size int64) error {
	info, err := j.file.Stat()
	if err != nil || info.Size() <= size {
		return err
	}
	j.stats.TornBytes = info.Size() - size
	return j.file.Truncate(size)
}

// lines reads newline-ended lines of bounded length from a file.
type lines struct {
	r   *bufio.Reader
	max int64
}

func newLines(r io.Reader, limit int64) *lines {
	return &lines{r: bufio.NewReaderSize(r, 64<<10), max: limit}
}

// next returns a line without its newline, valid until the next call, and its length in the file. A line longer than
// the bound comes as nil: it is damage. An unfinished last line is io.EOF.
func (l *lines) next() (raw []byte, length int64, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		length += int64(len(part))
		switch {
		case err == nil && raw == nil && length == int64(len(part)):
			return part[:len(part)-1], length, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, length, err
		}
		if length <= l.max {
			raw = append(raw, part...)
		} else {
			raw = nil
		}
		if err == nil {
			return raw[:max(len(raw)-1, 0)], length, nil
		}
	}
}
