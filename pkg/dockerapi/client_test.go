package dockerapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// TestGoClient lets today's Go client, with today's types, read what is written for clients up to 1.51.
func TestGoClient(t *testing.T) {
	s := stocked(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cli, err := client.New(client.WithHost("unix://" + s.sock))
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	list, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", "tier")})
	if err != nil || len(list.Items) != 2 || list.Items[0].Ports[0].PrivatePort != 53 {
		t.Fatalf("got %+v %v", list, err)
	}
	if got := cli.ClientVersion(); got != MaxAPIVersion {
		t.Errorf("negotiated %s, want %s", got, MaxAPIVersion)
	}
	web, err := cli.ContainerInspect(ctx, "web", client.ContainerInspectOptions{})
	if err != nil || web.Container.NetworkSettings.Networks["bridge"].IPAddress.String() != "172.30.0.2" || web.Container.Config.Hostname != "box" {
		t.Errorf("got %+v %v", web.Container, err)
	}
	if _, err := cli.ImageInspect(ctx, "busybox"); err != nil {
		t.Error(err)
	}
	if info, err := cli.Info(ctx, client.InfoOptions{}); err != nil || info.Info.NCPU != 2 {
		t.Errorf("got %+v %v", info, err)
	}
	made, err := cli.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "echo", Config: &container.Config{Image: "busybox", Cmd: []string{"both"}}})
	if err != nil {
		t.Fatal(err)
	}
	att, err := cli.ContainerAttach(ctx, made.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer att.Close()
	if _, err := cli.ContainerStart(ctx, made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, att.Reader); err != nil || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("got %q %q %v", out.String(), errs.String(), err)
	}
}

// TestVanishedTCPClientEndsServe: a TCP peer that has gone shows at the latest when something is written to it.
func TestVanishedTCPClientEndsServe(t *testing.T) {
	s := startServer(t)
	id := s.container(t, "cc", `{"Image":"busybox","Cmd":["sleep"],"OpenStdin":true}`)
	served := make(chan error, 1)
	s.Backend = &watchedBackend{fakeBackend: s.b, served: served}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := s.HTTPServer(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	s.do(t, "POST", "/containers/cc/start", "").want(t, 204, "")
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /containers/%s%s HTTP/1.1\r\nHost: d\r\n%s\r\n", id, attachAll, upgrade)
	head := make([]byte, len("HTTP/1.1 101"))
	if _, err := io.ReadFull(c, head); err != nil || !strings.HasSuffix(string(head), "101") {
		t.Fatalf("got %q %v", head, err)
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close() // with a reset: what a machine that lost the connection answers to a keepalive
	select {
	case err := <-served:
		if err == nil {
			t.Error("Serve ended well")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve goes on")
	}
}
