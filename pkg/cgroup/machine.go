package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// Machine is what the whole machine, the group above all groups, has used since its boot. Times only grow.
type Machine struct {
	Time time.Time
	// CPU is the time of all processors together, Busy the part of it in which they worked. Stolen time is in neither.
	CPU, Busy time.Duration
	Online    int // processors
	// MemoryTotal and MemoryAvailable are in bytes; what is available includes caches that can be dropped.
	MemoryTotal, MemoryAvailable uint64
	// Pressure is nil where the kernel keeps none. Its CPUFull is always 0: no kernel defines it for the machine.
	Pressure *triton.Pressure
}

// ReadMachine reads /proc. It is called each second.
func ReadMachine() (Machine, error) {
	m := Machine{Time: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, fmt.Errorf("read processor time of the machine: %w", err)
	}
	if err := m.processors(stat); err != nil {
		return Machine{}, err
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Machine{}, fmt.Errorf("read memory of the machine: %w", err)
	}
	if err := m.memory(info); err != nil {
		return Machine{}, err
	}
	m.Pressure, err = machinePressure("/proc/pressure/")
	return m, err
}

// userHZ is the unit of /proc/stat: 100 per second on every architecture that Linux has left (include/asm-generic/param.h).
const userHZ = 100

// processors reads /proc/stat. Of its first line it takes user to softirq, as docker sums it: guest time is in user already.
// Idle are the fourth and the fifth field, idle and iowait (proc_stat(5)).
func (m *Machine) processors(stat []byte) error {
	const counted, idle, iowait = 7, 3, 4
	for len(stat) > 0 {
		var line []byte
		line, stat = cutLine(stat)
		name, rest := cutWord(line)
		switch {
		case len(name) > len("cpu") && string(name[:len("cpu")]) == "cpu":
			m.Online++
		case string(name) == "cpu":
			for i := range counted {
				var word []byte
				word, rest = cutWord(rest)
				v, ok := digits(word)
				if !ok {
					return fmt.Errorf("/proc/stat: field %d of processor time is %q", i+1, word)
				}
				t := time.Duration(v) * (time.Second / userHZ)
				if m.CPU += t; i != idle && i != iowait {
					m.Busy += t
				}
			}
		}
	}
	if m.CPU == 0 || m.Online == 0 {
		return errors.New("/proc/stat: no processor time")
	}
	return nil
}

// memory reads /proc/meminfo, whose lines are "Key:   value kB".
func (m *Machine) memory(info []byte) error {
	for len(info) > 0 {
		var line []byte
		line, info = cutLine(info)
		key, rest := cutWord(line)
		word, _ := cutWord(rest)
		v, ok := digits(word)
		switch {
		case !ok:
		case string(key) == "MemTotal:":
			m.MemoryTotal = v << 10
		case string(key) == "MemAvailable:":
			m.MemoryAvailable = v << 10
		}
	}
	if m.MemoryTotal == 0 {
		return errors.New("/proc/meminfo: no MemTotal")
	}
	return nil
}

// machinePressure reads the files of dir: nil where the kernel has none (CONFIG_PSI=n, or psi=0 on its command line).
func machinePressure(dir string) (*triton.Pressure, error) {
	var p triton.Pressure
	for _, f := range []struct {
		name       string
		some, full *time.Duration
	}{{"cpu", &p.CPUSome, &p.CPUFull}, {"memory", &p.MemorySome, &p.MemoryFull}, {"io", &p.IOSome, &p.IOFull}} {
		b, err := os.ReadFile(dir + f.name)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EOPNOTSUPP):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("read pressure of the machine: %w", err)
		}
		*f.some, *f.full = pressure(b)
	}
	return &p, nil
}

// cutWord takes the first word, of what blanks part.
func cutWord(b []byte) (word, rest []byte) {
	b = bytes.TrimLeft(b, " \t")
	if i := bytes.IndexAny(b, " \t"); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}
