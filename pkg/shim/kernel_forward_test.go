package shim

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

func TestKernelForwardLastsAsLongAsTheContainer(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0") // the rig's container has no network: this is its program
	must(t, err)
	defer server.Close()
	host, err := net.Listen("tcp", "[::1]:0")
	must(t, err)
	sock, err := host.(*net.TCPListener).File()
	must(t, err)
	defer sock.Close()
	host.Close()
	addr := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	pid := r.shim.Process.Pid
	before := openFDs(t, pid)
	req := ForwardRequest{Ports: []ForwardedPort{{Proto: triton.ProtoTCP, Host: addr(host.Addr()), Target: addr(server.Addr())}}}
	var e *Error
	for name, files := range map[string][]*os.File{"too few": nil, "too many": {sock, sock}} {
		if err := r.client.Forward(r.ctx(), req, files); !errors.As(err, &e) || e.Kind != KindInvalid {
			t.Errorf("%s descriptors: %v", name, err)
		}
	}
	for range 2 { // the second changes nothing
		must(t, r.client.Forward(r.ctx(), req, []*os.File{sock}))
	}
	if got := openFDs(t, pid); got > before+2 { // the socket, and at the first time what waits for it
		t.Errorf("%d descriptors, %d before", got, before)
	}
	client, err := net.Dial("tcp", host.Addr().String())
	must(t, err)
	defer client.Close()
	conn, err := server.Accept()
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(client, "x")
	must(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	must(t, err)
	if s, err := r.client.State(r.ctx()); err != nil || s.Forwarded.Connections != 1 {
		t.Errorf("state: got %+v (%v), want a connection", s.Forwarded, err)
	}
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGKILL)}))
	r.wait("")
	must(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a client after the container's end: got %v, want a reset", err)
	}
	if err := r.client.Forward(r.ctx(), req, []*os.File{sock}); !errors.As(err, &e) || e.Kind != KindConflict {
		t.Errorf("forward after the end: %v", err)
	}
}
