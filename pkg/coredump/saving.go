package coredump

import (
	"errors"
	"iter"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Why a body ends before its time.
const (
	CutQuota = "quota"
	CutTime  = "max-hold"
	CutGone  = "process ended"
	CutDisk  = "disk full"
	CutRate  = "repeats"
	CutKill  = "the daemon ended"
)

// bodyLimits end a body.
type bodyLimits struct {
	quota    uint64 // bytes on disk
	room     uint64 // bytes that the disk has for it, or quota
	resident uint64 // bytes of the process that there are to store, about
	until    time.Time
	now      func() time.Time
	meter    *meter // of the work; nil: it is not measured
	// free says whether the disk may take more, of which ahead bytes were taken already; nil: as long as it does.
	free func(ahead uint64) bool
}

// met tells which limit ends a body of so many bytes; "": none.
func (l *bodyLimits) met(stored, ahead uint64) string {
	switch {
	case stored >= l.quota:
		return CutQuota
	case l.now().After(l.until):
		return CutTime
	case l.free != nil && !l.free(ahead):
		return CutDisk
	}
	return ""
}

// packers is how many goroutines read and pack the windows of one body. What they do takes twice as long as to write it.
const packers = 2

// slowWrite is from when on it takes less time to compress memory than to write it as it is: when the writing takes so many
// times as long as the reading. What goes to the page cache is written about as quickly as it is read; a volume that is
// slow, or behind with what was written before, takes no more than its disk does. Who shares the processors slows both down.
const slowWrite = 8

// aheadBy is how much room for a body is taken from the volume at a time: for each write it is twice the work.
const aheadBy = 64 << 20

// saving is a body while it is written. Several goroutines read and pack windows; each is written in its turn, which is the
// order in which they are listed.
type saving struct {
	lim  bodyLimits
	next func() (Run, bool)
	file *aheadFile
	out  *bodyWriter // of file; whose turn it is has both

	mu      sync.Mutex
	turn    sync.Cond
	listed  int // windows that were handed out
	written int // of them
	end     int // no window from this one on is written
	cut     string
	err     error
	stored  uint64
	ahead   uint64  // bytes of the volume beyond that
	taken   uint64  // bytes of the process that are stored
	reading float64 // nanoseconds per byte of the last windows that were not packed densely
	writing float64 // nanoseconds per byte of the last writes
}

// writeBody saves windows in order until all are, or a limit is met; cut says which. It takes four windows of memory.
func writeBody(f *os.File, h *Head, m *memory, windows iter.Seq[Run], lim bodyLimits) (stored uint64, cut string, err error) {
	file := &aheadFile{File: f, most: lim.room}
	s := &saving{lim: lim, file: file, out: &bodyWriter{h: h, to: file}, end: math.MaxInt}
	s.turn.L = &s.mu
	done := make(chan struct{})
	// Who halts a process is tied to a thread, and an iterator that is made on such a one is called on no other.
	go func() {
		defer close(done)
		err = s.all(h, m, windows)
	}()
	<-done
	// What was taken ahead is given back.
	err = errors.Join(s.err, err, s.out.flush(), f.Truncate(int64(file.at)))
	return s.out.stored, s.cut, err
}

func (s *saving) all(h *Head, m *memory, windows iter.Seq[Run]) error {
	next, stop := iter.Pull(windows)
	defer stop()
	s.next = next
	var work sync.WaitGroup
	errs := make([]error, packers)
	for i := range packers {
		work.Go(func() {
			p, err := newPacker(h, m)
			if err != nil {
				s.fail(err)
				return
			}
			s.run(p)
			errs[i] = p.close()
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// fail ends the body where it is.
func (s *saving) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(s.listed, "", err)
}

// run takes windows until there are no more.
func (s *saving) run(p *packer) {
	for {
		r, seq, dense, ok := s.hand()
		if !ok {
			return
		}
		begun := s.lim.now()
		w := packed{Run: r, dense: dense}
		s.lim.meter.during(func() { w.room, w.codec, w.err = p.pack(r, dense) })
		w.took = s.lim.now().Sub(begun)
		if !s.await(seq) {
			return
		}
		s.write(seq, &w)
	}
}

// hand lists the next window, and says whether it is to be stored densely.
func (s *saving) hand() (r Run, seq int, dense, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listed >= s.end {
		return r, 0, false, false
	}
	if cut := s.lim.met(s.stored, s.ahead); cut != "" {
		s.finish(s.listed, cut, nil)
		return r, 0, false, false
	}
	if r, ok = s.next(); !ok {
		s.finish(s.listed, "", nil)
		return r, 0, false, false
	}
	seq = s.listed
	s.listed++
	slow := seq >= 2*recently && s.writing > slowWrite*s.reading
	return r, seq, slow || s.taken < s.lim.resident && s.stored+s.lim.resident-s.taken > s.lim.room, true
}

// await waits until all windows before seq are written; false: this one is not to be.
func (s *saving) await(seq int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.written < seq && seq < s.end {
		s.turn.Wait()
	}
	return seq < s.end
}

// packed is a window that is to be written.
type packed struct {
	Run
	dense bool
	room  []byte // chunkHeader bytes of room, then its data
	codec uint32
	err   error
	took  time.Duration
}

// write stores the window whose turn it is.
func (s *saving) write(seq int, w *packed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(w.err, errGone):
		s.finish(seq, CutGone, nil)
		return
	case w.err != nil:
		s.finish(seq, "", w.err)
		return
	case s.stored+max(uint64(len(w.room)), chunkHeader) > s.lim.quota:
		s.finish(seq, CutQuota, nil)
		return
	}
	begun := s.lim.now()
	s.mu.Unlock()
	var err error
	s.lim.meter.during(func() { err = s.out.add(w.Run, w.room, w.codec) })
	s.mu.Lock()
	if err != nil {
		s.finish(seq, CutDisk, err)
		return
	}
	s.stored, s.ahead = s.out.stored, s.file.taken-s.file.at
	if w.codec != codecZero {
		size := w.End - w.Start
		s.taken += size
		s.writing = recent(s.writing, s.lim.now().Sub(begun), uint64(len(w.room)))
		if !w.dense {
			s.reading = recent(s.reading, w.took, size)
		}
	}
	s.written++
	s.turn.Broadcast()
}

// recently is how many windows are told apart from those before: one that takes long says nothing.
const recently = 8

// recent is the mean of about the last times per byte, with another.
func recent(mean float64, took time.Duration, bytes uint64) float64 {
	return mean + (float64(took)/float64(bytes)-mean)/recently
}

// finish ends the body before window seq; what was found for an earlier one counts. The caller holds mu.
func (s *saving) finish(seq int, cut string, err error) {
	if seq < s.end {
		s.end, s.cut, s.err = seq, cut, err
	}
	s.turn.Broadcast()
}

// aheadFile is a file whose room on the volume is taken before it is written.
type aheadFile struct {
	*os.File
	most      uint64 // bytes of which room is taken
	at, taken uint64 // what is written, what there is room for
	refused   bool
}

// Write implements io.Writer.
func (a *aheadFile) Write(b []byte) (int, error) {
	end := a.at + uint64(len(b))
	if end > a.taken && a.taken < a.most && !a.refused {
		step := min(aheadBy, a.most-a.taken)
		if unix.Fallocate(int(a.Fd()), unix.FALLOC_FL_KEEP_SIZE, int64(a.taken), int64(step)) == nil {
			a.taken += step
		} else { // not this file system; where there is no room, the write says so
			a.refused = true
		}
	}
	n, err := a.File.Write(b)
	a.at += uint64(n)
	a.taken = max(a.taken, a.at)
	return n, err
}
