package shim

import (
	"io"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
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
	p.fan.add(c)
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
