package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/jsonlog"
)

// A shim can be killed between any two instructions; these are the places where that makes a difference. After each,
// another shim must log every line once.
func TestKernelRecoverFinishesAnyStep(t *testing.T) {
	const before, under, after = "logged\nhalf", " line\nsecond\nend", " of it\n"
	for name, die := range map[string]func(t *testing.T, s *stream, log string){
		"before the splice": func(*testing.T, *stream, string) {},
		"after the splice":  func(t *testing.T, s *stream, _ string) { spliceAll(t, s) },
		"before the read":   func(t *testing.T, s *stream, _ string) { announce(s, spliceAll(t, s)) },
		"within the read": func(t *testing.T, s *stream, _ string) {
			now := announce(s, spliceAll(t, s))
			must(t, readExactly(s.inflight, s.buffer()[now.end:now.end+5]))
		},
		"after the read": func(t *testing.T, s *stream, _ string) {
			now := announce(s, spliceAll(t, s))
			must(t, readExactly(s.inflight, s.buffer()[now.end:now.end+now.n]))
		},
		"before the write": func(t *testing.T, s *stream, log string) { beginWrite(t, s, log, 0) },
		"within the write": func(t *testing.T, s *stream, log string) { beginWrite(t, s, log, 40) },
		"after the write":  func(t *testing.T, s *stream, log string) { beginWrite(t, s, log, -1) },
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			ours, theirs, err := outputPipe(0, 0)
			must(t, err)
			defer theirs.Close()
			s, err := newStream(ours, streamStdout, true)
			must(t, err)
			w := newLog(t, log)
			write(t, theirs, before)
			_, err = s.next()
			must(t, err)
			s.log(w, nil, false)
			write(t, theirs, under)
			die(t, s, log)
			must(t, w.Close())

			// The keeper's copies are all that is left of the first shim.
			_, held := s.held()
			copies := make([]*os.File, len(held))
			for i, f := range held {
				copies[i], err = dup(f)
				must(t, err)
			}
			must(t, s.close())
			s, err = reviveStream(copies[0], copies[1], copies[2], streamStdout, log)
			must(t, err)
			write(t, theirs, after)
			must(t, theirs.Close())
			f := &fan{framed: true}
			w = newLog(t, log)
			pm := newPump(s, w, f)
			pm.run()
			must(t, s.close())
			if got, want := logText(t, log), before+under+after; got != want {
				t.Errorf("log %q, want %q", got, want)
			}
			data, err := os.ReadFile(log)
			must(t, err)
			if n := strings.Count(string(data), "\n"); n != 4 {
				t.Errorf("%d records, want 4:\n%s", n, data)
			}
		})
	}
}

func newLog(t *testing.T, path string) *jsonlog.Writer {
	t.Helper()
	w, err := jsonlog.Open(jsonlog.Config{Path: path})
	must(t, err)
	return w
}

func write(t *testing.T, f *os.File, text string) {
	t.Helper()
	_, err := f.WriteString(text)
	must(t, err)
}

func spliceAll(t *testing.T, s *stream) int {
	t.Helper()
	n, err := unix.Splice(rawFD(s.src), nil, rawFD(s.fillEnd), nil, stepSize, unix.SPLICE_F_NONBLOCK)
	must(t, err)
	return int(n)
}

func announce(s *stream, n int) step {
	now := s.load()
	now.n = n
	s.store(now)
	return now
}

// beginWrite leaves the log's write under way with n bytes of it done; -1: all.
func beginWrite(t *testing.T, s *stream, log string, n int) {
	t.Helper()
	_, err := s.next()
	must(t, err)
	now := s.load()
	out, used, _ := jsonlog.Encode(nil, s.buffer()[now.start:now.end], s.label, time.Now(), false)
	var st unix.Stat_t
	must(t, unix.Stat(log, &st))
	s.setMark(jsonlog.Mark{Dev: st.Dev, Ino: st.Ino, Offset: st.Size, Size: int64(len(out))})
	s.store(step{start: now.start, end: now.end, n: used, logging: true})
	if n < 0 {
		n = len(out)
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer f.Close()
	write(t, f, string(out[:n]))
}

// BenchmarkKernelStream shows what it costs that output survives a kill: one splice per read.
func BenchmarkKernelStream(b *testing.B) {
	for name, lasting := range map[string]bool{"lasting": true, "private": false} {
		b.Run(name, func(b *testing.B) {
			ours, theirs, err := outputPipe(0, 0)
			if err != nil {
				b.Fatal(err)
			}
			s, err := newStream(ours, streamStdout, lasting)
			if err != nil {
				b.Fatal(err)
			}
			w, err := jsonlog.Open(jsonlog.Config{Path: filepath.Join(b.TempDir(), "log"), MaxSize: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			line := []byte("a line of output, as programs write them one by one\n")
			var scratch []byte
			for b.Loop() {
				if _, err := theirs.Write(line); err != nil {
					b.Fatal(err)
				}
				if _, err := s.next(); err != nil {
					b.Fatal(err)
				}
				scratch = s.log(w, scratch, false)
			}
			theirs.Close()
			s.close()
			w.Close()
		})
	}
}
