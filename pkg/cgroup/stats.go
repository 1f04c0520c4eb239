package cgroup

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/tritond/triton/pkg/triton"
)

// Stats reads what Usage reads and the details that docker stats shows beside it. The fields about the machine and the
// network stay zero. Errors are those of Usage.
func (f *FS) Stats(path string) (triton.Stats, error) {
	u, err := f.Usage(path)
	if err != nil {
		return triton.Stats{}, err
	}
	s := triton.Stats{Usage: u}
	if f.mode == V2 {
		dir := f.v2 + path
		s.MemoryStat = fields(readFile(dir, "memory.stat"))
		s.MemoryFails = fields(readFile(dir, "memory.events"))["max"]
		s.BlockBytes, s.BlockOps = ioStat(readFile(dir, "io.stat"))
		return s, nil
	}
	if mount := f.v1Mount("memory"); mount != "" {
		s.MemoryStat = fields(readFile(mount+path, "memory.stat"))
		s.MemoryFails = number([]byte(readFile(mount+path, "memory.failcnt")))
	}
	if mount := f.v1Mount("cpuacct"); mount != "" {
		for _, word := range strings.Fields(readFile(mount+path, "cpuacct.usage_percpu")) {
			ns, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return s, fmt.Errorf("read use by processor of %s: %w", path, err)
			}
			s.PerCPU = append(s.PerCPU, ns)
		}
	}
	if mount := f.v1Mount("blkio"); mount != "" {
		s.BlockBytes = blkio(readFile(mount+path, "blkio.throttle.io_service_bytes_recursive"))
		s.BlockOps = blkio(readFile(mount+path, "blkio.throttle.io_serviced_recursive"))
	}
	return s, nil
}

// readFile returns a small file of a control group, or nothing: what this kernel lacks is not shown.
func readFile(dir, name string) string {
	b, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		return ""
	}
	return string(b)
}

// fields reads "key value" lines.
func fields(text string) map[string]uint64 {
	out := map[string]uint64{}
	for line := (lines{rest: []byte(text)}); line.next(); {
		out[string(line.key)] = line.value
	}
	return out
}

// device reads MAJOR:MINOR.
func device(text string) (major, minor uint64, ok bool) {
	a, b, found := strings.Cut(text, ":")
	major, err := strconv.ParseUint(a, 10, 32)
	if !found || err != nil {
		return 0, 0, false
	}
	minor, err = strconv.ParseUint(b, 10, 32)
	return major, minor, err == nil
}

// blkio reads a file of v1's blkio controller: lines "MAJOR:MINOR Op VALUE" and a last "Total VALUE", which is left out.
func blkio(text string) []triton.BlockIO {
	var out []triton.BlockIO
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		major, minor, ok := device(words[0])
		value, err := strconv.ParseUint(words[2], 10, 64)
		if !ok || err != nil {
			continue
		}
		out = append(out, triton.BlockIO{Major: major, Minor: minor, Op: strings.ToLower(words[1]), Value: value})
	}
	return out
}

// ioStat reads cgroup2's io.stat: lines "MAJOR:MINOR rbytes=… wbytes=… rios=… wios=…".
func ioStat(text string) (bytes, ops []triton.BlockIO) {
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		major, minor, ok := device(words[0])
		if !ok {
			continue
		}
		for _, word := range words[1:] {
			name, text, _ := strings.Cut(word, "=")
			value, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				continue
			}
			entry := triton.BlockIO{Major: major, Minor: minor, Value: value}
			switch name {
			case "rbytes", "rios":
				entry.Op = "read"
			case "wbytes", "wios":
				entry.Op = "write"
			default:
				continue
			}
			if strings.HasSuffix(name, "bytes") {
				bytes = append(bytes, entry)
			} else {
				ops = append(ops, entry)
			}
		}
	}
	return bytes, ops
}
