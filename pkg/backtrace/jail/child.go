package jail

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
)

// Limits that the child sets itself.
const (
	// maxAddress is of its address space. The runtime reserves more than a gigabyte of it and uses little of that.
	maxAddress = 4 << 30
	// memoryGoal is what the garbage collector keeps to.
	memoryGoal = 768 << 20
	maxJob     = 64 << 20
)

// Child is the process that Run starts: it locks itself in, reads its job from stdin and writes the result to stdout.
func Child() error {
	if err := closeOthers(os.Args); err != nil {
		return err
	}
	if err := lock(); err != nil {
		return err
	}
	var j job
	if err := json.NewDecoder(io.LimitReader(os.Stdin, maxJob)).Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	files := make([]backtrace.Content, len(j.Sizes))
	fd := uintptr(filesFD)
	for i, size := range j.Sizes {
		if size < 0 {
			continue
		}
		files[i] = backtrace.Content{ReaderAt: os.NewFile(fd, "file"), Size: size}
		fd++
	}
	r := backtrace.Analyze(&j.Process, &remote{conn: os.NewFile(memoryFD, "memory"), pages: map[uint64][]byte{}}, files)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// closeOthers closes what the daemon may have inherited itself: the second argument says how many descriptors are meant
// for this process, beside the first three. Nothing may have been opened yet.
func closeOthers(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, the number of descriptors is wanted", len(args)-1)
	}
	given, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return fmt.Errorf("number of descriptors: %w", err)
	}
	if err := unix.CloseRange(memoryFD+uint(given), math.MaxInt32, 0); err != nil {
		return fmt.Errorf("close what is not meant for the analysis: %w", err)
	}
	return nil
}

// lock gives up all that the analysis does not need, before it reads anything foreign.
func lock() error { return lockFor(MaxTime) }

// lockFor is lock with another bound of processor time, in whole seconds.
func lockFor(cpu time.Duration) error {
	debug.SetMemoryLimit(memoryGoal)
	for _, l := range []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_AS, maxAddress}, {unix.RLIMIT_CPU, uint64(cpu.Seconds())}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_CORE, 0},
	} {
		if err := unix.Setrlimit(l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("limit of the analysis: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("lock the analysis in: %w", err)
	}
	return confine()
}

// pageSize is the unit in which memory is asked for.
const pageSize = 4096

// maxPages bounds what is kept of it: 64 MiB.
const maxPages = 16 << 10

// remote is the memory of the process that crashed, as the parent has it.
type remote struct {
	conn  io.ReadWriter
	pages map[uint64][]byte // nil: was not saved
}

// Load is for one goroutine at a time.
func (m *remote) Load(b []byte, addr uint64) bool {
	for len(b) > 0 {
		base := addr &^ (pageSize - 1)
		page, known := m.pages[base]
		if !known {
			page = m.ask(base)
			if len(m.pages) < maxPages {
				m.pages[base] = page
			}
		}
		if page == nil {
			return false
		}
		n := copy(b, page[addr-base:])
		b, addr = b[n:], addr+uint64(n)
	}
	return true
}

func (m *remote) ask(addr uint64) []byte {
	var q [requestSize]byte
	binary.LittleEndian.PutUint64(q[:], addr)
	binary.LittleEndian.PutUint64(q[8:], pageSize)
	if _, err := m.conn.Write(q[:]); err != nil {
		return nil
	}
	var have [1]byte
	if _, err := io.ReadFull(m.conn, have[:]); err != nil || have[0] == 0 {
		return nil
	}
	page := make([]byte, pageSize)
	if _, err := io.ReadFull(m.conn, page); err != nil {
		return nil
	}
	return page
}
