package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// suite is what TestMain prepares for all tests.
type suite struct {
	images images.Set
	bin    string // of tritond
	shared *under // the engine that most tests share
	long   bool
}

// all is set once by TestMain, before any test runs.
var all suite

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) (code int) {
	before := deviceNodes()
	closeAll, err := prepare()
	if err == nil {
		code = m.Run()
	}
	if err := errors.Join(err, closeAll()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL e2e:", err)
		code = 1
	}
	// Containers see host device nodes as bind mounts: none may have changed owner or mode.
	if diff := cmp.Diff(before, deviceNodes()); diff != "" {
		fmt.Fprintf(os.Stderr, "FAIL e2e: host device nodes changed (-before +after):\n%s", diff)
		code = 1
	}
	return code
}

// prepare fills all. The function it returns is never nil and stops what was started.
func prepare() (func() error, error) {
	nothing := func() error { return nil }
	root, err := filepath.Abs("../..")
	if err != nil {
		return nothing, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	all.bin = engine.BinDir(root)
	all.long = os.Getenv("TRITON_E2E_LONG") != ""
	if err := engine.Sweep(ctx, all.bin); err != nil {
		return nothing, err
	}
	if all.images, err = images.Build(ctx, filepath.Join(root, ".cache")); err != nil {
		return nothing, err
	}
	target, err := engine.StartTarget(ctx, os.Getenv("TRITON_E2E_HOST"), all.bin, root)
	if err != nil {
		return nothing, err
	}
	u, err := newUnder(target.Host, target.NetNS)
	if err != nil {
		return target.Stop, err
	}
	u.tritond = target.Tritond
	all.shared = u
	return func() error {
		u.api.Close()
		return errors.Join(target.Stop(), os.RemoveAll(u.cli.ConfigDir))
	}, u.load(ctx)
}

// node is what must not change of a device node.
type node struct {
	Mode     string
	UID, GID uint32
	Rdev     uint64
}

// deviceNodes reads the nodes that containers are given.
func deviceNodes() map[string]node {
	nodes := map[string]node{}
	for _, name := range []string{"null", "zero", "full", "tty", "urandom", "random", "fuse", "net/tun"} {
		info, err := os.Stat("/dev/" + name)
		if err != nil {
			continue
		}
		st := info.Sys().(*syscall.Stat_t)
		nodes[name] = node{Mode: info.Mode().String(), UID: st.Uid, GID: st.Gid, Rdev: st.Rdev}
	}
	return nodes
}
