package profile

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// reloadAfter is how old the kernel's names must be to be read again for an address that has none: code may have been loaded.
const reloadAfter = time.Minute

// Kernel names addresses of the kernel. The zero value is ready; methods may be called from any goroutine.
type Kernel struct {
	mu      sync.Mutex
	symbols []kernelSymbol // by address
	read    time.Time
}

type kernelSymbol struct {
	addr uint64
	name string
}

// Names returns the function at each address, "" where there is none.
func (k *Kernel) Names(pcs []uint64, now time.Time) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	names := make([]string, len(pcs))
	for {
		missing := false
		for i, pc := range pcs {
			names[i] = k.find(pc)
			missing = missing || names[i] == ""
		}
		if !missing || !k.read.IsZero() && now.Sub(k.read) < reloadAfter {
			return names, nil
		}
		k.read = now
		f, err := os.Open("/proc/kallsyms")
		if err != nil {
			return nil, fmt.Errorf("read the kernel's symbols: %w", err)
		}
		k.symbols, err = readKallsyms(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read the kernel's symbols: %w", err)
		}
	}
}

func (k *Kernel) find(pc uint64) string {
	i, found := slices.BinarySearchFunc(k.symbols, pc, func(s kernelSymbol, v uint64) int { return cmp.Compare(s.addr, v) })
	if !found {
		i--
	}
	if i < 0 {
		return ""
	}
	return k.symbols[i].name
}

// readKallsyms reads the code of /proc/kallsyms: address, type, name, and the module in brackets. All addresses are 0 for
// who may not see them: that is an error.
func readKallsyms(r io.Reader) ([]kernelSymbol, error) {
	var out []kernelSymbol
	code := []string{"t", "T", "w", "W"}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || !slices.Contains(code, f[1]) {
			continue
		}
		addr, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil || addr == 0 {
			continue
		}
		out = append(out, kernelSymbol{addr, strings.Clone(f[2])})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("no address can be seen")
	}
	slices.SortStableFunc(out, func(a, b kernelSymbol) int { return cmp.Compare(a.addr, b.addr) })
	return slices.CompactFunc(out, func(a, b kernelSymbol) bool { return a.addr == b.addr }), nil
}
