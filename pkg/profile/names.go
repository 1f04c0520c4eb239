package profile

import (
	"context"
	"os"
	"sync"
	"syscall"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/triton"
)

// Namer reads in a container's files what lies at addresses, as jail.Run does.
type Namer func(ctx context.Context, p *backtrace.Process, mem backtrace.Memory, files []*os.File) (*backtrace.Result, error)

// fileID is a file in one state: changed bytes are another one.
type fileID struct {
	dev, ino    uint64
	sec, nsec   int64 // of its last change
	size        int64
	kernelsOwn  bool // the vdso
	unavailable bool // could not be opened
}

func idOf(f *os.File) (fileID, error) {
	fi, err := f.Stat()
	if err != nil {
		return fileID{}, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fileID{dev: st.Dev, ino: st.Ino, sec: st.Ctim.Sec, nsec: st.Ctim.Nsec, size: st.Size}, nil
}

// place is where a file has code.
type place struct {
	// What lies there is partly read from memory that a container may have changed: what one tenant has there says nothing
	// of another's.
	tenant triton.Tenant
	file   fileID
	offset uint64 // in the file
}

// maxNames bounds what is remembered, some 200 bytes each.
const maxNames = 1 << 16

// Names remembers what lies where, for profiles of the same files. The zero value is ready; methods may be called from any
// goroutine.
type Names struct {
	mu    sync.Mutex
	known map[place]named
}

// named is what lies at a place.
type named struct {
	frames  []backtrace.Frame // innermost first; empty: it has no name
	buildID string
}

func (n *Names) get(p place) (named, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	got, ok := n.known[p]
	return got, ok
}

func (n *Names) put(p place, v named) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= maxNames {
		n.known = map[place]named{} // what is still needed is soon there again
	}
	n.known[p] = v
}
