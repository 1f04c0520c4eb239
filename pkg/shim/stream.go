package shim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/jsonlog"
)

// stream is one output of a process on its way to the log: the read end of a pipe, or a pty master. Its state outlives
// the shim, so that another one can go on where this one was killed:
//
//	container -> src -splice-> in-flight pipe -read-> memory -write-> log
//
// src, the in-flight pipe and the memory (a memfd) are held by the keeper as well. The splice happens only while the
// in-flight pipe is empty and nobody else writes to it, so what is in it is exactly what this step moved. The step under
// way is named by one word in the memory, stored with one instruction; recover finishes it.
//
// A process without a keeper, and an exec (whose output goes to clients only, and they die with the shim), has no
// in-flight pipe and ordinary memory.
type stream struct {
	src   *os.File // non-blocking
	label string   // stdout or stderr: what the log and the stream frames call it

	inflight *os.File // read end; nil: read src directly
	fillEnd  *os.File // write end of inflight
	memfd    *os.File // nil: mem is private
	mem      []byte   // header, then the buffer
}

const (
	memHeader = 4096
	// memBuffer holds what is not logged yet (less than jsonlog.MaxLine) and what one step adds.
	memBuffer = 128 << 10
	// stepSize is the most one step moves: a pipe's default capacity.
	stepSize = 64 << 10
)

// The header: the step word, then the place in the log of the write under way.
const (
	offStep   = 0
	offDev    = 8
	offIno    = 16
	offOffset = 24
	offSize   = 32
)

// step is what the step word says. buf[start:end] is output that is not in the log yet. n is the size of the step under
// way: filling reads n bytes from the in-flight pipe to buf[end:]; logging writes buf[start:start+n] to the log.
type step struct {
	start, end, n int
	logging       bool
}

func (s step) word() uint64 {
	w := uint64(s.start) | uint64(s.end)<<20 | uint64(s.n)<<40
	if s.logging {
		w |= 1 << 60
	}
	return w
}

func stepOf(w uint64) step {
	const mask = 1<<20 - 1
	return step{start: int(w & mask), end: int(w >> 20 & mask), n: int(w >> 40 & mask), logging: w>>60 == 1}
}

func (s step) valid() bool {
	if s.start > s.end || s.end > memBuffer {
		return false
	}
	if s.logging {
		return s.start+s.n <= s.end
	}
	return s.end+s.n <= memBuffer && s.n <= stepSize
}

// newStream takes over src. A lasting one gets an in-flight pipe and a memfd for the keeper.
func newStream(src *os.File, label string, lasting bool) (*stream, error) {
	s := &stream{src: src, label: label}
	if !lasting {
		return s, nil
	}
	fd, err := unix.MemfdCreate("triton-"+label, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory of %s: %w", label, err)
	}
	s.memfd = os.NewFile(uintptr(fd), "memfd")
	if err := unix.Ftruncate(fd, memHeader+memBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("memory of %s: %w", label, err), s.close())
	}
	if err := s.mapMemory(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.openInflight(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// mapMemory maps the memfd. Pages are taken when they are touched: a silent container pays for one.
func (s *stream) mapMemory() error {
	mem, err := unix.Mmap(rawFD(s.memfd), 0, memHeader+memBuffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map memory of %s: %w", s.label, err)
	}
	s.mem = mem
	return nil
}

// openInflight makes the in-flight pipe. Its ends stay in blocking mode: a read asks for no more than is in it.
func (s *stream) openInflight() error {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("in-flight pipe: %w", err)
	}
	s.inflight, s.fillEnd = os.NewFile(uintptr(fds[0]), "inflight"), os.NewFile(uintptr(fds[1]), "inflight-w")
	return nil
}

// reviveStream rebuilds a stream from what the keeper held and finishes the step in which the last shim was killed.
// logPath is where that shim wrote ("" : no log). It must run before anything else is written to the log. On an error
// the files stay the caller's.
func reviveStream(src, inflight, memfd *os.File, label, logPath string) (*stream, error) {
	s := &stream{src: src, label: label, memfd: memfd}
	if err := unix.SetNonblock(rawFD(src), true); err != nil {
		return nil, fmt.Errorf("revive %s: %w", label, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(rawFD(memfd), &st); err != nil || st.Size < memHeader+memBuffer {
		return nil, fmt.Errorf("revive %s: memory has %d bytes: %w", label, st.Size, err)
	}
	if err := s.mapMemory(); err != nil {
		return nil, err
	}
	err := s.recover(inflight, logPath)
	if err == nil {
		err = s.openInflight() // a new one: the write end of the last died with the shim
	}
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(s.mem))
	}
	inflight.Close() // empty now
	return s, nil
}

func (s *stream) recover(inflight *os.File, logPath string) error {
	now := s.load()
	if !now.valid() {
		return fmt.Errorf("revive %s: memory is corrupt: %+v", s.label, now)
	}
	if now.logging {
		done, err := jsonlog.Settle(logPath, s.mark())
		if err != nil {
			return err
		}
		if done {
			now.start += now.n
		}
		now.n, now.logging = 0, false
		s.store(now)
	}
	left, err := unix.IoctlGetInt(rawFD(inflight), unix.TIOCINQ) // FIONREAD by its other name
	if err != nil {
		return fmt.Errorf("revive %s: %w", s.label, err)
	}
	if now.n < left {
		now = s.compact(now) // killed between the splice and the word: nothing was read yet
		now.n = left
		s.store(now)
	}
	at := now.end + now.n - left // where the reading stopped
	if err := readExactly(inflight, s.buffer()[at:at+left]); err != nil {
		return fmt.Errorf("revive %s: %w", s.label, err)
	}
	s.store(step{start: now.start, end: now.end + now.n})
	return nil
}

// held returns the descriptors a keeper needs for this stream, by name.
func (s *stream) held() (names []string, files []*os.File) {
	if s.memfd == nil {
		return []string{s.label}, []*os.File{s.src}
	}
	return []string{s.label, s.label + ".inflight", s.label + ".memory"},
		[]*os.File{s.src, s.inflight, s.memfd}
}

// next moves what the process wrote to the buffer and returns it; the slice is valid until the next call. It blocks
// until there is something. io.EOF: all writers are gone. os.ErrDeadlineExceeded: src's read deadline passed.
func (s *stream) next() ([]byte, error) {
	if s.mem == nil {
		if err := s.waitReadable(); err != nil { // so that a silent process costs no buffer
			return nil, err
		}
		s.mem = make([]byte, memHeader+memBuffer)
	}
	now := s.compact(s.load())
	var n int
	var err error
	if s.inflight != nil {
		n, err = s.step(now)
	} else {
		n, err = s.read(now)
	}
	if err != nil {
		return nil, err
	}
	s.store(step{start: now.start, end: now.end + n})
	return s.buffer()[now.end : now.end+n], nil
}

// step is the lasting way: splice, say so, read.
func (s *stream) step(now step) (int, error) {
	n, err := s.poll(func(fd int) (int, error) {
		m, err := unix.Splice(fd, nil, rawFD(s.fillEnd), nil, stepSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return int(m), err
	})
	if errors.Is(err, unix.EINVAL) {
		return s.read(now) // a terminal on a kernel whose tty has no splice: a kill between read and word loses this read
	}
	if err != nil {
		return 0, err
	}
	now.n = n
	s.store(now)
	return n, readExactly(s.inflight, s.buffer()[now.end:now.end+n])
}

func (s *stream) read(now step) (int, error) {
	return s.poll(func(fd int) (int, error) {
		return unix.Read(fd, s.buffer()[now.end:now.end+stepSize])
	})
}

func (s *stream) waitReadable() error {
	_, err := s.poll(func(fd int) (int, error) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err == nil && n == 0 {
			return 0, unix.EAGAIN
		}
		return 1, err
	})
	return err
}

// poll calls op on src whenever it may be readable, until op does not answer EAGAIN. A terminal whose last user is gone
// answers EIO, which is its end of file.
func (s *stream) poll(op func(fd int) (int, error)) (n int, err error) {
	raw, err := s.src.SyscallConn()
	if err != nil {
		return 0, err
	}
	var opErr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, opErr = op(int(fd))
			if !errors.Is(opErr, unix.EINTR) {
				break
			}
		}
		return !errors.Is(opErr, unix.EAGAIN)
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(opErr, unix.EIO) || opErr == nil && n == 0:
		return 0, io.EOF
	}
	return n, opErr
}

// log writes to w what forms whole records, or with final all that is left, and reports what it did with the bytes: a
// write that failed counts them as dropped and goes on. scratch is reused between calls.
func (s *stream) log(w *jsonlog.Writer, scratch []byte, final bool) []byte {
	if s.mem == nil {
		return scratch
	}
	now := s.load()
	if w == nil {
		s.store(step{})
		return scratch
	}
	for at := time.Now(); ; now = s.load() {
		out, used, records := jsonlog.EncodeUpTo(w.Room(), scratch[:0], s.buffer()[now.start:now.end], s.label, at, final)
		if scratch = out; used == 0 {
			return scratch
		}
		// The error is in the writer's Stats, which StateReply shows; the container goes on.
		_ = w.Append(out, records, used, func(m jsonlog.Mark) {
			s.setMark(m)
			s.store(step{start: now.start, end: now.end, n: used, logging: true})
		})
		s.store(step{start: now.start + used, end: now.end})
	}
}

// unlogged is what log has left: the beginning of a line. It is valid until the next call of next.
func (s *stream) unlogged() []byte {
	if s.mem == nil {
		return nil
	}
	now := s.load()
	return s.buffer()[now.start:now.end]
}

// compact makes room for one step behind now.end. The bytes move to a place that does not overlap the old one, and one
// store makes the new place true.
func (s *stream) compact(now step) step {
	if now.start == now.end {
		now = step{}
	} else if now.end+stepSize > memBuffer {
		n := copy(s.buffer(), s.buffer()[now.start:now.end])
		now = step{end: n}
	} else {
		return now
	}
	s.store(now)
	return now
}

func (s *stream) buffer() []byte { return s.mem[memHeader:] }

func (s *stream) field(off int) *uint64 { return (*uint64)(unsafe.Pointer(&s.mem[off])) }

func (s *stream) load() step    { return stepOf(atomic.LoadUint64(s.field(offStep))) }
func (s *stream) store(st step) { atomic.StoreUint64(s.field(offStep), st.word()) }

func (s *stream) mark() jsonlog.Mark {
	return jsonlog.Mark{
		Dev: atomic.LoadUint64(s.field(offDev)), Ino: atomic.LoadUint64(s.field(offIno)),
		Offset: int64(atomic.LoadUint64(s.field(offOffset))), Size: int64(atomic.LoadUint64(s.field(offSize))),
	}
}

func (s *stream) setMark(m jsonlog.Mark) {
	atomic.StoreUint64(s.field(offDev), m.Dev)
	atomic.StoreUint64(s.field(offIno), m.Ino)
	atomic.StoreUint64(s.field(offOffset), uint64(m.Offset))
	atomic.StoreUint64(s.field(offSize), uint64(m.Size))
}

// close releases everything but src's container end. The pump must have ended.
func (s *stream) close() error {
	s.src.Close()
	for _, f := range []*os.File{s.inflight, s.fillEnd, s.memfd} {
		if f != nil {
			f.Close()
		}
	}
	if s.memfd != nil && s.mem != nil {
		mem := s.mem
		s.mem = nil
		return unix.Munmap(mem)
	}
	return nil
}

// readExactly fills p from a pipe that holds at least as much.
func readExactly(f *os.File, p []byte) error {
	fd := rawFD(f)
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		p = p[n:]
	}
	return nil
}
