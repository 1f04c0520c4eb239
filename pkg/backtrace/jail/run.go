package jail

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
)

// Bounds of a run.
const (
	// MaxTime is how long a run may take.
	MaxTime    = 30 * time.Second
	maxFiles   = 512
	maxAnswer  = 64 << 20
	maxErrors  = 4 << 10
	maxRequest = 64 << 10 // bytes of memory at a time
)

// nobody is who the process runs as.
const nobody = 65534

// job is what the process is told.
type job struct {
	Process backtrace.Process `json:"process"`
	// Sizes are of the files, whose descriptors follow the memory's in order; -1: there is none.
	Sizes []int64 `json:"sizes"`
}

// Where the child finds its memory, and the first file.
const (
	memoryFD = 3
	filesFD  = 4
)

// Run analyses p in a process of program, triton-backtrace. files are those of p.Files, nil where there is none; they stay
// open. A process that ends badly or takes too long is an error that says so. took is its processor time, whatever became of it.
func Run(ctx context.Context, program string, p *backtrace.Process, mem backtrace.Memory, files []*os.File) (
	b *backtrace.Result, took time.Duration, err error,
) {
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	j := job{Process: *p}
	ours, theirs, err := pair()
	if err != nil {
		return nil, 0, err
	}
	defer ours.Close()
	defer theirs.Close()
	extra := []*os.File{theirs}
	for i, f := range files {
		if f == nil || i >= maxFiles {
			j.Sizes = append(j.Sizes, -1)
			continue
		}
		st, err := f.Stat()
		if err != nil {
			return nil, 0, err
		}
		j.Sizes = append(j.Sizes, st.Size())
		extra = append(extra, f)
	}
	in, err := json.Marshal(j)
	if err != nil {
		return nil, 0, err
	}
	answer, complaint := &limited{most: maxAnswer}, &limited{most: maxErrors}
	image, err := openProgram(program)
	if err != nil {
		return nil, 0, err
	}
	defer image.Close()
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", image.Fd()), strconv.Itoa(len(extra)))
	cmd.Args[0] = program
	cmd.Env = []string{"GOTRACEBACK=none"}
	cmd.Dir = "/"
	cmd.ExtraFiles = extra
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), answer, complaint
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWPID,
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Pdeathsig:  unix.SIGKILL,
	}
	err = start(ctx, cmd, ours, theirs, mem)
	if st := cmd.ProcessState; st != nil {
		took = st.UserTime() + st.SystemTime()
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, took, fmt.Errorf("the analysis took longer than %s", MaxTime)
		}
		return nil, took, fmt.Errorf("the analysis ended: %w: %s", err, strings.ToValidUTF8(complaint.String(), "."))
	}
	if answer.over {
		return nil, took, fmt.Errorf("the analysis answered more than %d bytes", maxAnswer)
	}
	var r backtrace.Result
	if err := json.Unmarshal(answer.Bytes(), &r); err != nil {
		return nil, took, fmt.Errorf("the answer of the analysis: %w", err)
	}
	return &r, took, nil
}

// openProgram opens what is executed by its descriptor: nobody may not be allowed to go where it lies, such as below /root. The
// descriptor is above all that the process is given, and closes with the execution.
func openProgram(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, filesFD+maxFiles)
	if err != nil {
		return nil, fmt.Errorf("keep %s open: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// start runs cmd to its end and serves its requests for memory.
func start(ctx context.Context, cmd *exec.Cmd, ours, theirs *os.File, mem backtrace.Memory) error {
	// The kernel ends the child with the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	theirs.Close()
	served := make(chan error, 1)
	go func() {
		err := serve(ours, mem)
		ours.Close() // a process that asks for nonsense waits for no answer
		served <- err
	}()
	stop := context.AfterFunc(ctx, func() { ours.Close() })
	defer stop()
	err := cmd.Wait()
	ours.Close()
	if serr := <-served; err != nil && !errors.Is(serr, os.ErrClosed) {
		return errors.Join(err, serr)
	}
	return err
}

// pair makes a socket for each side.
func pair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket of an analysis: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that closing ends a read
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "memory"), os.NewFile(uintptr(fds[1]), "memory"), nil
}

// A request is an address and a length, 8 bytes each; the answer is a byte, 1: the bytes follow, 0: they were not saved.
const requestSize = 16

// serve answers requests until the other side is gone.
func serve(conn io.ReadWriter, mem backtrace.Memory) error {
	var q [requestSize]byte
	buf := make([]byte, 1+maxRequest)
	for {
		if _, err := io.ReadFull(conn, q[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		addr, n := binary.LittleEndian.Uint64(q[:]), binary.LittleEndian.Uint64(q[8:])
		if n == 0 || n > maxRequest {
			return fmt.Errorf("the analysis asked for %d bytes of memory at once", n)
		}
		answer := buf[:1]
		answer[0] = 0
		if mem.Load(buf[1:1+n], addr) {
			buf[0] = 1
			answer = buf[:1+n]
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

// limited keeps the first bytes of what is written.
type limited struct {
	bytes.Buffer
	most int
	over bool
}

// Write takes all, and keeps what fits.
func (l *limited) Write(b []byte) (int, error) {
	keep := min(len(b), l.most-l.Len())
	l.over = l.over || keep < len(b)
	l.Buffer.Write(b[:keep])
	return len(b), nil
}
