package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Keeper speaks to the keeper process. Requests of several goroutines are sent one after the other.
type Keeper struct {
	mu sync.Mutex
	cn *conn
}

// Held is a copy of a descriptor that the keeper holds; the receiver closes File.
type Held struct {
	HeldFD
	File *os.File
}

// DialKeeper connects to the keeper that listens at path.
func DialKeeper(ctx context.Context, path string, hello Hello) (*Keeper, HelloReply, error) {
	cn, reply, err := dial(ctx, path, hello)
	if err != nil {
		return nil, reply, fmt.Errorf("keeper %s: %w", path, err)
	}
	return &Keeper{cn: cn}, reply, nil
}

// Close closes the connection; the keeper keeps what it holds.
func (k *Keeper) Close() error { return k.cn.Close() }

// Handoff gives the keeper copies of files, named by req.FDs in the same order. The caller keeps its own. What the
// keeper held under the same names is closed.
func (k *Keeper) Handoff(ctx context.Context, req HandoffRequest, files []*os.File) error {
	if len(files) != len(req.FDs) {
		return fmt.Errorf("handoff: %d descriptors, %d names", len(files), len(req.FDs))
	}
	return k.call(ctx, VerbHandoff, req, nil, files)
}

// Fetch returns copies of everything held for a run of a container; none is not an error.
func (k *Keeper) Fetch(ctx context.Context, req FetchRequest) ([]Held, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var reply FetchReply
	err := k.cn.call(ctx, VerbFetch, req, &reply, nil)
	files := k.cn.takeFiles()
	if err == nil && len(files) != len(reply.FDs) {
		err = fmt.Errorf("fetch: %d descriptors came, %d were named", len(files), len(reply.FDs))
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, gone(err)
	}
	held := make([]Held, len(files))
	for i, f := range files {
		held[i] = Held{HeldFD: reply.FDs[i], File: f}
	}
	return held, nil
}

// Release makes the keeper close what it holds for a run of a container, or for one exec of it.
func (k *Keeper) Release(ctx context.Context, req ReleaseRequest) error {
	return k.call(ctx, VerbRelease, req, nil, nil)
}

// Cores returns a copy of the listening socket for core dumps at path, which the keeper makes if need be. The lease on
// it lasts as long as this connection.
func (k *Keeper) Cores(ctx context.Context, path string) (*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.cn.call(ctx, VerbCores, CoresRequest{Path: path}, nil, nil)
	files := k.cn.takeFiles()
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("cores: %d descriptors came, not one", len(files))
	}
	if err != nil {
		closeFiles(files)
		return nil, gone(err)
	}
	return files[0], nil
}

// DropCores makes the keeper close the socket for core dumps.
func (k *Keeper) DropCores(ctx context.Context) error {
	return k.call(ctx, VerbCores, CoresRequest{Drop: true}, nil, nil)
}

// Gone returns when the keeper closed the connection, or ctx is done.
func (k *Keeper) Gone(ctx context.Context) error {
	end, err := k.hangup()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { end.Close() })
	defer stop()
	defer end.Close() // a second close does nothing
	awaitHangup(end)
	return ctx.Err()
}

// Shutdown ends the keeper; it refuses while it holds descriptors.
func (k *Keeper) Shutdown(ctx context.Context) error {
	return k.call(ctx, VerbShutdown, nil, nil, nil)
}

func (k *Keeper) call(ctx context.Context, verb Verb, body, reply any, files []*os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.cn.call(ctx, verb, body, reply, files)
	k.cn.dropFiles()
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return gone(err)
	}
	return err
}

// hangup returns a copy of the connection's descriptor to wait on with awaitHangup; closing it ends that wait. A copy,
// because a wait on the connection itself would keep requests from reading their answers.
func (k *Keeper) hangup() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(k.cn.fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch keeper: %w", err)
	}
	return os.NewFile(uintptr(fd), "hangup"), nil
}

// awaitHangup blocks until the peer closed the connection or f was closed.
func awaitHangup(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	// The error says that f was closed, which is an end as well.
	_ = raw.Read(func(fd uintptr) bool { return hungUp(int(fd), unix.POLLRDHUP) })
}

// hungUp reports whether one of events, or a hang-up, is pending on a socket.
func hungUp(fd int, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}
