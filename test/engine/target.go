package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Target is an engine that the tests of a package share.
type Target struct {
	Host    string   // unix://…
	NetNS   string   // path of the network namespace of its bridge; empty: this process's
	Tritond *Tritond // nil: a foreign engine
	stop    func() error
}

// StartTarget starts what name says: a tritond when it is empty, an edition of dockerd (see FindEdition), or nothing when it
// is the address of an engine that runs. bin is the folder of tritond, repo that of the repository.
func StartTarget(ctx context.Context, name, bin, repo string) (*Target, error) {
	if name == "" {
		d, err := NewTritond(bin)
		if err != nil {
			return nil, err
		}
		t := &Target{Host: d.Host, Tritond: d, stop: func() error { return d.CloseWithin(time.Minute) }}
		if err := d.Start(ctx); err != nil {
			return nil, errors.Join(err, t.Stop())
		}
		return t, nil
	}
	edition, ok, err := FindEdition(ctx, name, repo)
	if err != nil {
		return nil, err
	}
	if !ok {
		return &Target{Host: name, NetNS: os.Getenv("TRITON_E2E_NETNS"), stop: func() error { return nil }}, nil
	}
	d, err := StartDockerd(ctx, edition, fmt.Sprintf("/tmp/tedockerd%d", os.Getpid()), nil)
	if err != nil {
		return nil, err
	}
	return &Target{Host: d.Host, NetNS: d.NetNS(), stop: d.Stop}, nil
}

// Stop ends what was started and checks that nothing of it is left.
func (t *Target) Stop() error { return t.stop() }

// BinDir is the folder of the binaries under test: TRITON_E2E_BIN, or bin in the folder of the repository.
func BinDir(repo string) string {
	if bin := os.Getenv("TRITON_E2E_BIN"); bin != "" {
		return bin
	}
	return filepath.Join(repo, "bin")
}

// Load gives an engine the images of archives.
func (c CLI) Load(ctx context.Context, archives ...string) error {
	for _, archive := range archives {
		res, err := c.Run(ctx, nil, "load", "-q", "-i", archive)
		if err != nil {
			return err
		}
		if res.Code != 0 {
			return fmt.Errorf("load %s: %s%s", archive, res.Stdout, res.Stderr)
		}
	}
	return nil
}
