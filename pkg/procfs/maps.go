package procfs

import (
	"debug/elf"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxMaps bounds the mappings of a process; a core has at most as many segments.
const maxMaps = 65_000

// Mapping is a line of /proc/PID/maps.
type Mapping struct {
	Start, End uint64
	Flags      elf.ProgFlag // PF_R, PF_W, PF_X
	Private    bool
	Offset     uint64 // in the file
	Device     string // MAJOR:MINOR, in hex
	Inode      string // "0": no file
	Path       string // as the process sees it, with what the kernel escapes; "" and names in brackets: no file
}

// ParseMaps reads /proc/PID/maps, and /proc/PID/smaps, whose other lines it hands to detail, if that is not nil. A path has
// no line ends: the kernel escapes them. Lines that are none are left out.
func ParseMaps(text string, detail func(m *Mapping, key, value string)) []Mapping {
	var out []Mapping
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		first, rest, _ := strings.Cut(line, " ")
		from, to, isRange := strings.Cut(first, "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if !isRange || err1 != nil || err2 != nil {
			if key, ok := strings.CutSuffix(first, ":"); ok && detail != nil && len(out) > 0 {
				detail(&out[len(out)-1], key, strings.TrimSpace(rest))
			}
			continue
		}
		f := strings.SplitN(rest, " ", 5) // perms, offset, device, inode, spaces and path
		if len(f) < 4 || len(f[0]) < 4 || end <= start || len(out) == maxMaps {
			continue
		}
		m := Mapping{Start: start, End: end, Private: f[0][3] == 'p', Device: f[2], Inode: f[3]}
		m.Offset, _ = strconv.ParseUint(f[1], 16, 64) // the kernel wrote it
		for i, flag := range []elf.ProgFlag{elf.PF_R, elf.PF_W, elf.PF_X} {
			if f[0][i] != '-' {
				m.Flags |= flag
			}
		}
		if len(f) == 5 {
			m.Path = strings.TrimLeft(f[4], " ")
		}
		out = append(out, m)
	}
	return out
}

// Fields of /proc/PID/stat as proc(5) numbers them.
const (
	statAfterName   = 3
	statStart       = 22
	statStack       = 28
	statEnvironment = 50 // its start, then its end
)

// StackStart is where the stack of a process's first thread begins, by /proc/PID/stat: another place after each exec, as
// far as addresses are random. 0: it is not told, or text is not such a file.
func StackStart(stat string) uint64 {
	v, _ := statField(stat, statStack)
	return v
}

// Started is when a process came to be, by /proc/PID/stat, since the machine's start (CLOCK_BOOTTIME), rounded down to
// 10 ms; false: text is not such a file.
func Started(stat string) (time.Duration, bool) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on x86-64
	v, ok := statField(stat, statStart)
	if !ok || v > uint64(math.MaxInt64/tick) {
		return 0, false
	}
	return time.Duration(v) * tick, true
}

// Environment is where the text of a process's environment lies, by /proc/PID/stat; false: text is not such a file.
func Environment(stat string) (start, end uint64, ok bool) {
	start, ok1 := statField(stat, statEnvironment)
	end, ok2 := statField(stat, statEnvironment+1)
	return start, end, ok1 && ok2 && start <= end
}

func statField(stat string, n int) (uint64, bool) {
	end := strings.LastIndexByte(stat, ')') // of the name, which may hold anything
	if end < 0 {
		return 0, false
	}
	f := strings.Fields(stat[end+1:])
	if len(f) <= n-statAfterName {
		return 0, false
	}
	v, err := strconv.ParseUint(f[n-statAfterName], 10, 64)
	return v, err == nil
}

// Cgroup is the path of a process in the hierarchy of cgroup2, by /proc/PID/cgroup; "": it is in none.
func Cgroup(text string) string {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

// Cgroup is the path of the process in the hierarchy of cgroup2; "": it is in none, or has ended.
func (d *Dir) Cgroup() string {
	b, err := d.Read("cgroup")
	if err != nil {
		return ""
	}
	return Cgroup(string(b))
}
