package main

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// What the program is when this is its first argument: a client, whose address, certificate and containers follow, or a server in place of
// the daemon, whose folder follows.
const (
	clientMode = "client"
	serverMode = "server"
)

const (
	// pace is between two requests of a connection: the four of a client make 2,000 events a second, which costs the machine little,
	// since clients are elsewhere.
	pace = 2 * time.Millisecond
	// tenant is whose the client is: an operator's requests are not bounded.
	tenant = "flooder"
)

// other runs the program as a client or server; false: it is neither.
func other(args []string) (bool, error) {
	switch {
	case len(args) == 6 && args[1] == clientMode:
		return true, client(context.Background(), args[2], args[3], args[4], args[5])
	case len(args) == 3 && args[1] == serverMode:
		return true, server(args[2])
	}
	return false, nil
}

// client is a tenant's that makes events without end: on one connection it pauses a container and lets it go, on three it
// prepares execs of another. What the daemon refuses, it asks again.
func client(ctx context.Context, host, certs, paused, execed string) error {
	api, err := engine.NewTLSAPI(host, certs, 4)
	if err != nil {
		return err
	}
	defer api.Close()
	failed := make(chan error, 4)
	again := func(body string, paths ...string) {
		every := time.NewTicker(pace)
		defer every.Stop()
		for n := 0; ; n++ {
			<-every.C
			if _, err := api.Do(ctx, http.MethodPost, paths[n%len(paths)], "application/json", strings.NewReader(body)); err != nil {
				failed <- err
				return
			}
		}
	}
	for range 3 {
		go again(`{"Cmd":["true"]}`, "/containers/"+execed+"/exec")
	}
	go again("", "/containers/"+paused+"/pause", "/containers/"+paused+"/unpause")
	return <-failed
}

// server answers every request with nothing, by TLS: what requests cost beside what is done for them. Its authority's certificate is in
// dir, its address on standard output.
func server(dir string) error {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		return err
	}
	fmt.Println(s.Listener.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// addTenant makes the tenant, with a certificate, and gives it the image.
func (b *bench) addTenant(ctx context.Context, bin, archive, address string) error {
	b.tenant = engine.CLI{Host: "tcp://" + address, ConfigDir: b.cli.ConfigDir, CertDir: filepath.Join(b.daemon.Root, tenant)}
	add := exec.CommandContext(ctx, filepath.Join(bin, "triton"), "-H", b.daemon.Host, "tenant", "add", tenant, "--out", b.tenant.CertDir)
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("triton tenant add: %w: %s", err, out)
	}
	_, err := run(ctx, b.tenant, "load", "-q", "-i", archive)
	return err
}

// events runs a client in the group beside two containers of its tenant while the neighbour is looked at.
func (b *bench) events(ctx context.Context, r *row) (s span, err error) {
	containers := []string{"paused", "execed"}
	for _, name := range containers {
		if _, err := run(ctx, b.tenant, "run", "-d", "--name", name, images.Programs, "sleep", "1000"); err != nil {
			return s, err
		}
	}
	s, err = b.besideClient(ctx, r, b.tenant.Host, b.tenant.CertDir, containers)
	_, rm := run(ctx, b.tenant, append([]string{"rm", "-f"}, containers...)...)
	return s, errors.Join(err, rm)
}

// bareEvents runs the same client against a server that does nothing.
func (b *bench) bareEvents(ctx context.Context) (s span, err error) {
	dir, err := os.MkdirTemp(b.daemon.Root, "bare")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink(filepath.Join(b.tenant.CertDir, name), filepath.Join(dir, name)); err != nil {
			return s, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, self, serverMode, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := cmd.Start(); err != nil {
		return s, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s, err = b.besideClient(ctx, nil, "tcp://"+strings.TrimSpace(address), dir, []string{"paused", "execed"})
	}
	return s, errors.Join(err, cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
}

// besideClient looks at the neighbour while a client in the group asks host.
func (b *bench) besideClient(ctx context.Context, r *row, host, certs string, containers []string) (s span, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := b.group.command(ctx, append([]string{self, clientMode, host, certs}, containers...)...)
	if err := cmd.Start(); err != nil {
		return s, err
	}
	if r != nil {
		err = b.delayed(ctx)
	}
	if err == nil {
		s, err = b.watch(ctx, r)
	}
	err = errors.Join(err, b.group.kill())
	_, _ = cmd.Process.Wait() // it was killed
	return s, err
}

// delayed waits until the client has used up what it has at once, so that the turn shows what comes in the long run; for twenty seconds at the most.
func (b *bench) delayed(ctx context.Context) error {
	var first string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text, err := b.metrics(ctx)
		if err != nil {
			return err
		}
		switch now := delayedLine.FindString(text); {
		case first == "":
			first = now
		case now != first:
			return nil
		}
	}
	return nil
}

var delayedLine = regexp.MustCompile(`(?m)^triton_tenant_requests_delayed_total\{tenant="` + tenant + `"\} .*$`)
