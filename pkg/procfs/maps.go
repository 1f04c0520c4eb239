package procfs

import (
	"debug/elf"
	"strconv"
	"strings"
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

// StackStart is where the stack of a process's first thread begins, by /proc/PID/stat: another place after each exec, as
// far as addresses are random. 0: it is not told, or text is not such a file.
func StackStart(stat string) uint64 {
	end := strings.LastIndexByte(stat, ')') // of the name, which may hold anything
	if end < 0 {
		return 0
	}
	const startStack, afterName = 28, 3 // fields as proc(5) numbers them
	f := strings.Fields(stat[end+1:])
	if len(f) <= startStack-afterName {
		return 0
	}
	v, err := strconv.ParseUint(f[startStack-afterName], 10, 64)
	if err != nil {
		return 0
	}
	return v
}
