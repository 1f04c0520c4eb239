package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// TestATenantsFloodDelaysItsOwnRequestsOnly: one tenant's client asks for more than its share, so that its requests wait, and for more
// than may wait, so that they are refused. Another tenant's followers, requests and containers do not wait, nor do an operator's.
func TestATenantsFloodDelaysItsOwnRequestsOnly(t *testing.T) {
	const waiting, clients = "64", 80
	operator, acme, globex, _ := withTenants(t, "--api-cpu", "0.01", "--api-waiting", waiting)
	// A list of processes is charged with 10 ms, whosever it is, and so is a network that is none: 200 use up the reserve, and then
	// there is one in a minute or so.
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer stop()
	flooding := acme.tlsAPI(t, clients)
	var refused sync.Map // messages
	for i := range clients {
		method, path, body := http.MethodGet, "/containers/nothing/top", []byte(nil)
		if i%2 == 0 {
			method, path, body = http.MethodPost, "/networks/create", []byte("{")
		}
		flood.Go(func() {
			for ctx.Err() == nil {
				r, err := flooding.Do(ctx, method, path, "application/json", bytes.NewReader(body))
				var answer struct{ Message string }
				if err == nil && r.Status == http.StatusTooManyRequests && json.Unmarshal(r.Body, &answer) == nil {
					refused.Store(answer.Message, r.Header.Get("Retry-After"))
					<-time.After(100 * time.Millisecond)
				}
			}
		})
	}
	floods := func() bool { return operator.metric(t, `triton_tenant_requests_waiting{tenant="acme"}`) >= 60 }
	eventually(t, commandTime, "the flood waits", floods)
	const message = "tenant acme asks for too much: " + waiting + " of its requests wait already, try again later"
	eventually(t, commandTime, "some of it is refused", func() bool {
		after, ok := refused.Load(message)
		return ok && after == "1"
	})
	eventually(t, commandTime, "docker prints why", func() bool { return strings.Contains(acme.docker(t, "ps").Stderr, message) })

	api := globex.tlsAPI(t, 300)
	for range 50 { // more than there are places
		events, err := api.Stream(t.Context(), "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer events.Close()
	}
	for range 200 {
		if r, err := api.Do(t.Context(), http.MethodGet, "/containers/json?all=1", "", nil); err != nil || r.Status != http.StatusOK {
			t.Fatalf("a list beside the flood: %d %v", r.Status, err)
		}
	}
	equal(t, "a container beside the flood", globex.ok(t, "run", "--rm", images.Busybox, "echo", "served"), "served")
	operator.ok(t, "ps")
	eventually(t, commandTime, "the flood is still there", floods)
	for series, want := range map[string]bool{
		`triton_tenant_requests_delayed_total{tenant="acme"}`: true, `triton_tenant_requests_delayed_total{tenant="globex"}`: false,
		`triton_tenant_requests_refused_total{tenant="acme"}`: true, `triton_tenant_requests_refused_total{tenant="globex"}`: false,
		`triton_tenant_request_delay_seconds_total{tenant="globex"}`: false,
		`triton_tenant_request_cpu_seconds_total{tenant="globex"}`:   true, `triton_tenant_requests_total{tenant="default"}`: false,
	} {
		if n := operator.metric(t, series); (n > 0) != want {
			t.Errorf("%s is %v", series, n)
		}
	}
	if n := operator.metric(t, `triton_tenant_requests_total{tenant="globex"}`); n < 250 {
		t.Errorf("%v requests of globex are counted", n)
	}
	stop() // the clients go away, half of them with a body that nobody has read
	eventually(t, commandTime, "nobody waits who is gone", func() bool { return operator.metric(t, `triton_tenant_requests_waiting{tenant="acme"}`) == 0 })
}

// TestComposeDoesNotWait: what a tenant's compose asks for is paid by what the tenant has at once, though each container has a volume of its own. How much
// it asks for of 300 containers is in pkg/dockerapi/testdata/use.
func TestComposeDoesNotWait(t *testing.T) {
	const services = 40
	operator, acme, _, _ := withTenants(t)
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.AddCompose(repo, acme.cli.ConfigDir); err != nil {
		t.Fatal(err)
	}
	var file, volumes strings.Builder
	for i := range services {
		fmt.Fprintf(&file, "  s%d:\n    image: %s\n    command: sleep 1000\n    init: true\n    volumes: ['v%d:/data']\n", i, images.Busybox, i)
		fmt.Fprintf(&volumes, "  v%d:\n", i)
	}
	project := filepath.Join(t.TempDir(), "compose.yml")
	if err := os.WriteFile(project, []byte("services:\n"+file.String()+"volumes:\n"+volumes.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	charged := func() float64 {
		return operator.metric(t, `triton_tenant_request_cpu_seconds_total{tenant="acme"}`)
	}
	before := charged()
	acme.ok(t, "compose", "-p", "many", "-f", project, "up", "-d")
	up := charged()
	acme.ok(t, "compose", "-p", "many", "-f", project, "down", "-v")
	down := charged()
	if delayed := operator.metric(t, `triton_tenant_requests_delayed_total{tenant="acme"}`); delayed > 0 {
		t.Errorf("%v requests waited", delayed)
	}
	// Of a container: create 2.2 ms, start 5.2, its volume 4.4; stop 1.2, remove 2.2, its volume 4.2; the rest is lists and inspects.
	for what, took := range map[string]float64{"up": up - before, "down": down - up} {
		if each := took / services; each < 7e-3 || each > 15e-3 {
			t.Errorf("%s is charged with %.4f s for each container", what, each)
		}
	}
}

// TestATenantsConnectionsAreBounded: who has as many as a tenant may is told so; other tenants and operators are served.
func TestATenantsConnectionsAreBounded(t *testing.T) {
	const most = 8
	operator, acme, globex, address := withTenants(t, "--api-connections", strconv.Itoa(most))
	own, err := tls.LoadX509KeyPair(filepath.Join(acme.cli.CertDir, "cert.pem"), filepath.Join(acme.cli.CertDir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	open := func() float64 { return operator.metric(t, `triton_tenant_connections{tenant="acme"}`) }
	eventually(t, commandTime, "docker's own are closed", func() bool { return open() == 0 })
	var idle []net.Conn
	for range most {
		conn, err := tls.Dial("tcp", address, &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	eventually(t, commandTime, "they are counted", func() bool { return open() == most })
	acme.fails(t, anyFailure, "tenant acme has 8 connections open already, close some", "ps")
	globex.ok(t, "ps")
	operator.ok(t, "ps")
	if n := operator.metric(t, `triton_tenant_connections_refused_total{tenant="acme"}`); n < 1 {
		t.Errorf("%v connections were refused", n)
	}
	if n := operator.metric(t, `triton_tenant_connections_refused_total{tenant="globex"}`); n != 0 {
		t.Errorf("%v connections of another were refused", n)
	}
	for _, conn := range idle {
		conn.Close()
	}
	eventually(t, commandTime, "there is room again", func() bool { return open() == 0 })
	acme.ok(t, "ps")
}

// TestATenantsEventsPushOutNoOthers: a tenant has a container whose every event is large, and makes more of them than any journal
// keeps. Its own first ones are gone, those of others are not.
func TestATenantsEventsPushOutNoOthers(t *testing.T) {
	operator, acme, globex, _ := withTenants(t)
	run := []string{"run", "-d", "--name", "first", images.Busybox, "sleep", "1000"}
	all := map[*under]string{}
	for _, u := range []*under{operator, acme, globex} {
		all[u] = u.ok(t, run...)
	}
	api := acme.tlsAPI(t, 4)
	var large struct{ Id string }
	spec := map[string]any{"Image": images.Busybox, "Cmd": []string{"sleep", "1000"}, "Labels": map[string]string{"large": strings.Repeat("x", 200<<10)}}
	if err := api.JSON(t.Context(), http.MethodPost, "/containers/create", spec, &large); err != nil {
		t.Fatal(err)
	}
	if err := api.JSON(t.Context(), http.MethodPost, "/containers/"+large.Id+"/start", nil, nil); err != nil {
		t.Fatal(err)
	}
	for range 120 { // 24 MB
		if err := api.JSON(t.Context(), http.MethodPost, "/containers/"+large.Id+"/exec", map[string]any{"Cmd": []string{"true"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for u, id := range all {
		filters := []string{"--filter", "container=first", "--filter", "event=create", "--filter", "event=start", "--format", "{{.ID}} {{.Action}}"}
		if u == acme {
			eventually(t, commandTime, "the flood's own past is gone", func() bool {
				return u.ok(t, append([]string{"events", "--since", "5m", "--until", "0s"}, filters...)...) == ""
			})
			continue
		}
		equal(t, "events of another", u.past(t, 2, filters...), id+" create\n"+id+" start")
	}
	kept := func(tenant string) float64 {
		return operator.metric(t, `triton_journal_kept_events{tenant="`+tenant+`"}`)
	}
	if n := kept("acme"); n < 10 || n > 60 {
		t.Errorf("of the flood %v events are kept", n)
	}
	if kept("globex") < 2 || kept("default") < 2 {
		t.Errorf("of others %v and %v events are kept", kept("globex"), kept("default"))
	}
}
