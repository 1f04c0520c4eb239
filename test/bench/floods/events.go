package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// clientMode is what the program is when this is its first argument: a client, and its daemon and containers follow.
const clientMode = "client"

// pace is between two requests of a connection: the four of a client make 2,000 events a second, which costs the machine little,
// since clients are elsewhere.
const pace = 2 * time.Millisecond

// client is a tenant's that makes events without end: on one connection it pauses a container and lets it go, on three it
// prepares execs of another. What the daemon refuses, it asks again.
func client(ctx context.Context, host, paused, execed string) error {
	api := engine.NewAPI(host, 4)
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

// events runs a client in the group beside two containers while the neighbour is looked at.
func (b *bench) events(ctx context.Context, r *row) (s span, err error) {
	containers := []string{"paused", "execed"}
	for _, name := range containers {
		if _, err := b.docker(ctx, "run", "-d", "--name", name, images.Programs, "sleep", "1000"); err != nil {
			return s, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := b.group.command(ctx, append([]string{self, clientMode, b.daemon.Host}, containers...)...)
	if err := cmd.Start(); err != nil {
		return s, err
	}
	s, err = b.watch(ctx, r)
	err = errors.Join(err, b.group.kill())
	_, _ = cmd.Process.Wait() // it was killed
	_, rm := b.docker(ctx, append([]string{"rm", "-f"}, containers...)...)
	return s, errors.Join(err, rm)
}
