package main

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Traces come as gzip-compressed CSV without a header, one line per series: NAME.cpu.csv.gz and, where there is memory,
// NAME.mem.csv.gz with the same ids. Two leading columns, then samples on a 5-minute grid:
//
//	id, requested milli-cores, used milli-cores...      (memory: id, requested MiB, used MiB...)
//	day YYYYMMDD, id, used percent of one core...        a VM-day; an id's days are chained in their order
//
// A file is of the second form when the first column of its first line is a date and it has one day of samples.

const (
	stepsPerHour = 12
	stepsPerDay  = 24 * stepsPerHour
	// wholeVM is the request of a series that is given in per cent of the machine it ran on.
	wholeVM = 1000
	// keptDays of the days of a set is what an id must have to be chained (VM-days only).
	keptDays = 0.7
)

// set is one trace: requests and series of images. Time-major: the use of image i in step t is cpu[t*images+i].
type set struct {
	name    string
	images  int
	steps   int
	reqCPU  []float32 // cores
	reqMem  []float32 // MiB; all 0: the set has no memory
	cpu     []float32 // cores
	mem     []float32 // MiB, nil: none
	dropped int       // images that fit no empty node
}

type row struct {
	a, b    int64
	samples []float32
}

// loadSets reads every trace of dir. nodeCPU and nodeMem say what an empty node has: larger images are left out.
func loadSets(dir string, nodeCPU, nodeMem float32) ([]*set, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.cpu.csv.gz"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.cpu.csv.gz in %s", dir)
	}
	sort.Strings(files)
	var sets []*set
	for _, f := range files {
		s, err := loadSet(f, nodeCPU, nodeMem)
		if err != nil {
			return nil, err
		}
		sets = append(sets, s)
	}
	return sets, nil
}

func loadSet(file string, nodeCPU, nodeMem float32) (*set, error) {
	rows, err := readRows(file)
	if err != nil {
		return nil, err
	}
	mem := map[int64]row{}
	memRows, err := readRows(strings.TrimSuffix(file, ".cpu.csv.gz") + ".mem.csv.gz")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, r := range memRows {
		mem[r.a] = r
	}
	if isDate(rows[0].a) && len(rows[0].samples) == stepsPerDay {
		rows = chainDays(rows)
	}
	s := &set{name: strings.TrimSuffix(filepath.Base(file), ".cpu.csv.gz")}
	var keep []row
	for _, r := range rows {
		m, hasMem := mem[r.a]
		if float32(r.b)/1000 > nodeCPU || hasMem && float32(m.b) > nodeMem || len(mem) > 0 && !hasMem || r.b <= 0 {
			s.dropped++
			continue
		}
		keep = append(keep, r)
	}
	if len(keep) == 0 {
		return nil, fmt.Errorf("%s: no series fits a node", file)
	}
	s.fill(keep, mem)
	return s, nil
}

func (s *set) fill(rows []row, mem map[int64]row) {
	s.images, s.steps = len(rows), len(rows[0].samples)
	for _, r := range rows {
		s.steps = min(s.steps, len(r.samples))
	}
	s.reqCPU, s.reqMem = make([]float32, s.images), make([]float32, s.images)
	s.cpu = make([]float32, s.images*s.steps)
	if len(mem) > 0 {
		s.mem = make([]float32, s.images*s.steps)
	}
	for i, r := range rows {
		s.reqCPU[i] = float32(r.b) / 1000
		for t := range s.steps {
			s.cpu[t*s.images+i] = r.samples[t] / 1000
		}
		if s.mem == nil {
			continue
		}
		m := mem[r.a]
		s.reqMem[i] = float32(m.b)
		for t := range min(s.steps, len(m.samples)) {
			s.mem[t*s.images+i] = m.samples[t]
		}
	}
}

func isDate(v int64) bool {
	month, day := v/100%100, v%100
	return v >= 19700101 && v < 21000101 && month >= 1 && month <= 12 && day >= 1 && day <= 31
}

// chainDays joins the days of each id in their order. Ids with fewer than keptDays of the set's days are left out.
func chainDays(rows []row) []row {
	days := map[int64]bool{}
	byID := map[int64][]row{}
	for _, r := range rows {
		days[r.a] = true
		byID[r.b] = append(byID[r.b], r)
	}
	need := max(1, int(keptDays*float64(len(days))))
	var out []row
	for id, list := range byID {
		if len(list) < need {
			continue
		}
		sort.Slice(list, func(i, j int) bool { return list[i].a < list[j].a })
		chained := row{a: id, b: wholeVM}
		for _, d := range list[:need] {
			for _, v := range d.samples {
				chained.samples = append(chained.samples, v*wholeVM/100)
			}
		}
		out = append(out, chained)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].a < out[j].a })
	return out
}

func readRows(file string) (rows []row, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	rows, err = parseRows(z)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return rows, nil
}

// maxLine bounds one series: a year of 5-minute samples of eight digits.
const maxLine = 1 << 20

func parseRows(r io.Reader) ([]row, error) {
	var rows []row
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 1<<16), maxLine)
	for line := 1; sc.Scan(); line++ {
		fields := strings.Split(sc.Text(), ",")
		if len(fields) < 2+stepsPerHour {
			return nil, fmt.Errorf("line %d: %d columns", line, len(fields))
		}
		r := row{samples: make([]float32, len(fields)-2)}
		var err error
		if r.a, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
			return nil, fmt.Errorf("line %d: id: %w", line, err)
		}
		if r.b, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
			return nil, fmt.Errorf("line %d: request: %w", line, err)
		}
		for i, f := range fields[2:] {
			v, err := strconv.ParseFloat(f, 32)
			if err != nil || v < 0 || v != v {
				return nil, fmt.Errorf("line %d: sample %d is %q", line, i+1, f)
			}
			r.samples[i] = float32(v)
		}
		rows = append(rows, r)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("no series")
	}
	return rows, nil
}
