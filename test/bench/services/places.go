package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
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

// placeTurns compare places while each turn starts all anew.
type placeTurns struct {
	*bed
	levels []string
	places *regexp.Regexp      // those wanted
	roots  map[string]root     // by service
	seen   map[string][]sample // by key
}

// run prints a table of rounds turns of every placement.
func (m *placeTurns) run(ctx context.Context, rounds int, out io.Writer) error {
	for i, s := range m.all {
		var err error
		if m.roots[s.name], err = unpack(ctx, m.built[s.name], filepath.Join(m.daemon.Root, "root-"+strconv.Itoa(i)), m.account); err != nil {
			return err
		}
	}
	for i := range rounds + 1 { // the first warms up and is not counted
		fmt.Fprintf(os.Stderr, "services: round %d of %d\n", i, rounds)
		if i == 1 {
			clear(m.seen)
		}
		if err := m.round(ctx); err != nil {
			return err
		}
	}
	return m.print(out)
}

// key names a series; place and level are empty for processes of the host.
func key(s service, place, level string) string { return s.name + "|" + place + "|" + level }

// round is one turn of every placement.
func (m *placeTurns) round(ctx context.Context) error {
	for _, s := range m.all {
		if !m.places.MatchString(places[0].name) {
			break
		}
		if err := m.onHost(ctx, s, "", ""); err != nil {
			return fmt.Errorf("%s on the host: %w", s.name, err)
		}
	}
	for _, level := range m.levels {
		m.daemon.Extra = []string{"--probes", level}
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
func (m *placeTurns) onHost(ctx context.Context, s service, place, level string) (err error) {
	r := m.roots[s.name]
	stop, err := r.serve(ctx, s.server, s.port)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return m.turn(s, place, level, func() (string, error) { return r.output(ctx, s.client("127.0.0.1")) })
}

// inContainers runs the server in a container and the client at each place.
func (m *placeTurns) inContainers(ctx context.Context, s service, level string) error {
	for _, network := range []string{"host", "bridge"} {
		wanted := slices.ContainsFunc(places[1:], func(p place) bool { return p.network == network && m.places.MatchString(p.name) })
		if !wanted {
			continue
		}
		address, err := m.startServer(ctx, s, network)
		if err != nil {
			return err
		}
		for i, place := range places {
			if place.network != network || !m.places.MatchString(place.name) {
				continue
			}
			load := func() (string, error) {
				switch i {
				case 2:
					return m.docker(ctx, append([]string{"exec", "server"}, s.client("127.0.0.1")...)...)
				case 4:
					return m.docker(ctx, append([]string{"run", "--rm", s.image.Tag}, s.client(address)...)...)
				}
				return m.roots[s.name].output(ctx, s.client(address))
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

// turn runs a load and keeps what it saw.
func (m *placeTurns) turn(s service, place, level string, load func() (string, error)) error {
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
		r.requests = redisRequests
	}
	k := key(s, place, level)
	m.seen[k] = append(m.seen[k], sample{rate: r.rate, cpu: time.Duration(float64(after-before) / r.requests)})
	return nil
}
