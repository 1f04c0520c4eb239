package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes a socket that only root can reach. A stale one, whose process died, is replaced.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("stale socket: %w", err)
	}
	old := unix.Umask(0o177)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// acceptPause keeps a shortage of descriptors from becoming a busy loop.
const acceptPause = 50 * time.Millisecond

// accept runs serve for each connection until ctx ends; then it hangs up and waits for them.
func accept(ctx context.Context, ln *net.UnixListener, logs *slog.Logger, serve func(context.Context, *conn)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		nc, err := ln.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ECONNABORTED) {
				logs.Warn("accept", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(acceptPause):
				}
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			cn := &conn{UnixConn: nc}
			unhook := context.AfterFunc(ctx, cn.hangUp)
			defer func() {
				unhook()
				cn.dropFiles()
				nc.Close()
			}()
			serve(ctx, cn)
		}()
	}
}

// respond sends one answer, with files beside it, and closes the files; false: the connection is of no more use.
func respond(cn *conn, body any, err error, files []*os.File) bool {
	defer closeFiles(files)
	var resp Response
	if err != nil {
		resp.Error = asError(err)
	} else if body != nil {
		raw, merr := json.Marshal(body)
		if merr != nil {
			resp.Error = asError(merr)
		}
		resp.Body = raw
	}
	frame, ferr := encodeFrame(resp)
	if ferr != nil {
		return false
	}
	return cn.sendFrame(frame, files) == nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(rawFD(f)), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
