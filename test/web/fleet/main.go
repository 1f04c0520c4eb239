// Command fleet serves the page over containers that do not exist: the real hub and the real store, sources that make numbers
// up. It is what the page's benchmark and its screenshots look at, because a thousand real containers do not fit everywhere.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/web"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	n := flag.Int("containers", 1000, "how many containers there are")
	url := flag.String("url", "", "instead of serving, be clients of the fleet at this address")
	readers := flag.Int("clients", 50, "with -url: how many")
	stalled := flag.Int("stalled", 0, "with -url: how many of them never read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := func() error { return serve(ctx, *listen, *n) }
	if *url != "" {
		run = func() error { return clients(ctx, *url, *readers, *stalled) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen string, n int) error {
	store := telemetry.New(telemetry.Config{})
	f := newFleet(n)
	for i := range f.list {
		if c := &f.list[i]; c.State.Status == triton.StatusRunning {
			store.Add(c.Key, c.Name, c.Spec.Image, f.source(i))
		}
	}
	hub := dashboard.New(dashboard.Config{
		Version: "fleet", Boot: fmt.Sprint(time.Now().UnixNano()), Node: "fleet", Containers: f, Telemetry: store, Events: f, Terminals: f,
		Caller: caller, Recheck: 2 * time.Second,
	})
	page, err := web.Handler()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.Handle(dashboard.Path, hub.Handler())
	mux.Handle(dashboard.TerminalPath, hub.Handler())
	mux.HandleFunc("POST /triton/v1/login", login)
	mux.HandleFunc("/triton/v1/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message":"made-up containers have none"}`) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { stats(w, hub) })
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: time.Minute}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return store.Run(ctx) })
	g.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return errors.Join(hub.Close(), server.Close())
	})
	return g.Wait()
}

// tenants are who may log in: the token is the tenant's name.
var tenants = map[string]bool{"acme": true, "other": true}

const cookie = "triton"

func login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body); err != nil || !tenants[body.Token] {
		http.Error(w, "this token is not known", http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: body.Token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

func caller(r *http.Request) (dashboard.Caller, error) {
	c, err := r.Cookie(cookie)
	if err != nil || !tenants[c.Value] {
		return dashboard.Caller{}, errors.New("sign in first")
	}
	return dashboard.Caller{Name: c.Value, Tenant: triton.Tenant(c.Value), Exec: true, Ambient: true}, nil
}

// stats are the hub's and the process's own numbers.
func stats(w http.ResponseWriter, hub *dashboard.Hub) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	st := hub.Stats()
	json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // the client is gone
		"cpuNs": u.Utime.Nano() + u.Stime.Nano(), "clients": st.Clients, "groups": st.Groups, "dropped": st.Dropped,
		"oldestUnsentMs": st.OldestUnsent.Milliseconds(),
	})
}
