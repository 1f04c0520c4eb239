package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// A process is released as soon as its output has ended, which may be before its clients have been told or have written
// a byte of it.
func TestReleaseLeavesClientsWhatWaitsForThem(t *testing.T) {
	p := newProcess("exec", Stdio{})
	r, w, err := outputPipe(0, 0)
	must(t, err)
	s, err := newStream(r, streamStdout, false)
	must(t, err)
	p.io.streams = []*stream{s}
	ours, theirs := connPair(t)
	c := newClient(ours, AttachRequest{Stdout: true})
	_, _, err = p.fan.add(c, false)
	must(t, err)
	pm := newPump(s, nil, p.fan)
	p.pumps = []*pump{pm}
	write(t, w, "hi\n")
	must(t, w.Close())
	pm.run()

	p.close()
	go c.write()
	got, err := io.ReadAll(theirs)
	must(t, err)
	if want := "\x01\x00\x00\x00\x00\x00\x00\x03hi\n"; string(got) != want {
		t.Errorf("the client got %q, want %q", got, want)
	}
}

// Clients that read slowly get all of the output of a container that was removed as soon as it had ended (run --rm).
func TestKernelDeleteLeavesClientsWhatWaitsForThem(t *testing.T) {
	const size = 900_000 // less than a client's window, more than a socket holds
	r := newRig(t, "head", "-c", strconv.Itoa(size), "/dev/zero")
	r.create()
	s, err := r.client.Attach(r.ctx(), outputs)
	must(t, err)
	must(t, r.client.Start(r.ctx()))
	r.wait("")
	r.remove()
	g := &gathered{done: make(chan struct{})}
	go g.read(s.Output)
	if stdout, _ := unframe(t, g.end(t)); len(stdout) != size {
		t.Errorf("the client got %d bytes of %d", len(stdout), size)
	}
	must(t, s.Close())
	must(t, r.shim.Wait())
}

// Clients that attach at any moment while two streams are written, parts of lines among it, find each byte of a stream either
// in the log up to the place that they are told or in what they are sent.
func TestLogAndStreamMeet(t *testing.T) {
	p := newProcess("", Stdio{})
	path := filepath.Join(t.TempDir(), "c-json.log")
	w, err := jsonlog.Open(jsonlog.Config{Path: path, MaxSize: 64 << 10, MaxFile: 100, Compress: true})
	must(t, err)
	ends := map[string]*os.File{}
	for _, label := range []string{streamStdout, streamStderr} {
		r, end, err := outputPipe(0, 0)
		must(t, err)
		s, err := newStream(r, label, true)
		must(t, err)
		p.io.streams = append(p.io.streams, s)
		ends[label] = end
	}
	p.pump(w)
	const writes = 10_000
	var writers sync.WaitGroup
	want := map[string]string{}
	for label, end := range ends {
		var text strings.Builder
		for i := range writes {
			fmt.Fprintf(&text, "%s %d%s", label, i, []string{"\n", " ", ",\n\n"}[i%3])
		}
		want[label] = text.String()
		writers.Go(func() {
			defer end.Close()
			for rest := text.String(); rest != ""; {
				n := min(1+len(rest)%17, len(rest))
				if _, err := end.WriteString(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
		})
	}
	var clients sync.WaitGroup
	var last triton.LogPlace
	for range 30 {
		await(t, "more is written", func() error {
			now, err := w.End()
			if err == nil && now == last && !p.outputEnded() {
				return errors.New("nothing new")
			}
			last = now
			return err
		})
		ours, theirs := connPair(t)
		c := newClient(ours, AttachRequest{Stdout: true, Stderr: true})
		attached, reply, err := p.fan.add(c, true)
		must(t, err)
		if !attached {
			c.end()
		}
		clients.Go(c.write)
		clients.Go(func() {
			logged := loggedUpTo(t, path, reply.LogEnd)
			rest, err := io.ReadAll(theirs)
			if err != nil {
				t.Error(err)
			}
			sent := map[string]string{}
			sent[streamStdout], sent[streamStderr] = unframe(t, string(rest))
			for label := range sent {
				if diff := cmp.Diff(want[label], logged[label]+sent[label]); diff != "" {
					t.Errorf("%s, %d bytes of which are from the log (-want +got):\n%s", label, len(logged[label]), diff)
				}
			}
		})
	}
	writers.Wait()
	for _, pm := range p.pumps {
		<-pm.ended
	}
	p.close()
	clients.Wait()
	must(t, w.Close())
}

// loggedUpTo is what a log has of each stream before a place.
func loggedUpTo(t *testing.T, path string, end triton.LogPlace) map[string]string {
	t.Helper()
	logged := map[string]string{}
	opts := triton.LogOptions{Stdout: true, Stderr: true, Tail: -1, UpTo: &end}
	_, err := jsonlog.Read(context.Background(), path, opts, nil, func(rec triton.LogRecord) error {
		logged[rec.Stream] += string(rec.Line)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return logged
}

// connPair returns two ends of a stream.
func connPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		cn, err := net.FileConn(f)
		must(t, err)
		must(t, f.Close())
		t.Cleanup(func() { cn.Close() })
		ends[i] = cn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}
