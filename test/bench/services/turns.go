package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
)

// place is where a client is.
type place struct{ name, network string }

// places are where the client is, and for the server's container which network it has. The first has no container: a
// server of the host, to tell what the daemon costs the whole host from what the container costs.
var places = []place{
	{"on the host, server a process of the host", ""},
	{"on the host, server on the host's network", "host"},
	{"in the server's container", "bridge"},
	{"on the host, over the bridge", "bridge"},
	{"in another container, over the bridge", "bridge"},
}

// sample is one turn.
type sample struct {
	rate float64       // requests per second
	cpu  time.Duration // of server and client, per request
}

// measurement is one run of the program.
type measurement struct {
	daemon  *engine.Tritond
	account *engine.Account
	cli     engine.CLI
	all     []service
	levels  []string
	settled bool                // the daemon's level has followed the load
	places  *regexp.Regexp      // those wanted
	roots   map[string]root     // by service
	seen    map[string][]sample // by key
}

// key names a series; place and level are empty for processes of the host.
func key(s service, place, level string) string { return s.name + "|" + place + "|" + level }

// prepare makes the images, loads them into the daemon and unpacks them for the host.
func (m *measurement) prepare(ctx context.Context, cache string) error {
	if err := m.daemon.Start(ctx); err != nil {
		return err
	}
	for i, s := range m.all {
		built, err := s.image.Build(ctx, cache)
		if err != nil {
			return err
		}
		if _, err := m.docker(ctx, "load", "-q", "-i", built.Archive); err != nil {
			return err
		}
		if m.roots[s.name], err = unpack(ctx, built, filepath.Join(m.daemon.Root, "root-"+strconv.Itoa(i)), m.account); err != nil {
			return err
		}
	}
	return m.daemon.Stop()
}

func (m *measurement) docker(ctx context.Context, args ...string) (string, error) {
	res, err := m.cli.Run(ctx, nil, args...)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("docker %s: exit code %d: %s", strings.Join(args, " "), res.Code, strings.TrimSpace(res.Stderr))
	}
	return strings.TrimSpace(res.Stdout), err
}

// round is one turn of every placement.
func (m *measurement) round(ctx context.Context) error {
	for _, s := range m.all {
		if !m.places.MatchString(places[0].name) {
			break
		}
		if err := m.onHost(ctx, s, "", ""); err != nil {
			return fmt.Errorf("%s on the host: %w", s.name, err)
		}
	}
	for _, level := range m.levels {
		m.daemon.Extra, m.settled = []string{"--probes", level}, level != "auto"
		if err := m.daemon.Start(ctx); err != nil {
			return err
		}
		for _, s := range m.all {
			var err error
			if m.places.MatchString(places[0].name) {
				err = m.onHost(ctx, s, places[0].name, level)
			}
			if err = errors.Join(err, m.inContainers(ctx, s, level)); err != nil {
				return fmt.Errorf("%s, probes %s: %w", s.name, level, err)
			}
		}
		if err := m.daemon.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// onHost runs server and client as processes of the host.
func (m *measurement) onHost(ctx context.Context, s service, place, level string) (err error) {
	r := m.roots[s.name]
	stop, err := r.serve(ctx, s.server, s.port)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return m.turn(s, place, level, func() (string, error) { return r.output(ctx, s.client("127.0.0.1", turns(level))) })
}

// inContainers runs the server in a container and the client at each place.
func (m *measurement) inContainers(ctx context.Context, s service, level string) (err error) {
	for _, network := range []string{"host", "bridge"} {
		wanted := slices.ContainsFunc(places[1:], func(p place) bool { return p.network == network && m.places.MatchString(p.name) })
		if !wanted {
			continue
		}
		args := append([]string{"run", "-d", "--name", "server", "--network", network, s.image.Tag}, s.server...)
		if _, err := m.docker(ctx, args...); err != nil {
			return err
		}
		address := "127.0.0.1"
		if network == "bridge" {
			if address, err = m.docker(ctx, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"); err != nil {
				return err
			}
		}
		if err := listens(ctx, address+":"+s.port); err != nil {
			logs, _ := m.docker(ctx, "logs", "server") // the error above is what counts
			return fmt.Errorf("%w: %s", err, logs)
		}
		for i, place := range places {
			if place.network != network || !m.places.MatchString(place.name) {
				continue
			}
			load := func() (string, error) {
				switch i {
				case 2:
					return m.docker(ctx, append([]string{"exec", "server"}, s.client("127.0.0.1", turns(level))...)...)
				case 4:
					return m.docker(ctx, append([]string{"run", "--rm", s.image.Tag}, s.client(address, turns(level))...)...)
				}
				return m.roots[s.name].output(ctx, s.client(address, turns(level)))
			}
			if err := m.turn(s, place.name, level, load); err != nil {
				return err
			}
		}
		if _, err := m.docker(ctx, "rm", "-f", "server"); err != nil {
			return err
		}
	}
	return nil
}

// turns is how many turns' time a load runs: where calls are counted in a tenth of a period, a whole one.
func turns(level string) int {
	if level == "sampled" || level == "auto" {
		return 10 / turnSeconds
	}
	return 1
}

// settleTime is what a level that steps by itself needs to follow a load: two measurements of every five seconds, and again for
// the level that it steps to, which is measured each ten.
const settleTime = 25 * time.Second

// settle repeats a load until the level has followed it, once for each start of the daemon.
func (m *measurement) settle(load func() (string, error)) error {
	for from := time.Now(); !m.settled && time.Since(from) < settleTime; {
		if _, err := load(); err != nil {
			return err
		}
	}
	m.settled = true
	return nil
}

// turn runs a load and keeps what it saw.
func (m *measurement) turn(s service, place, level string, load func() (string, error)) error {
	if place != "" && place != places[0].name { // without a container no level makes a difference
		if err := m.settle(load); err != nil {
			return err
		}
	}
	before, err := m.account.CPU()
	if err != nil {
		return err
	}
	out, err := load()
	if err != nil {
		return err
	}
	after, err := m.account.CPU()
	if err != nil {
		return err
	}
	r, err := s.parse(out)
	if err != nil {
		return err
	}
	if r.requests == 0 {
		r.requests = float64(redisRequests * turns(level))
	}
	k := key(s, place, level)
	m.seen[k] = append(m.seen[k], sample{rate: r.rate, cpu: time.Duration(float64(after-before) / r.requests)})
	return nil
}
