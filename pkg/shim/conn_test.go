package shim

import (
	"context"
	"net"
	"path/filepath"
	"testing"
)

func TestConnIsUsableWhenItsContextEndsWithTheAnswer(t *testing.T) {
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.DialUnix("unix", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{UnixConn: nc}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	stop := c.bound(ctx)
	cancel() // the answer is in, and bound's function has not been stopped yet
	stop()
	if _, err := c.Write([]byte("next request")); err != nil {
		t.Errorf("next request: %v", err)
	}
}
