// Command triton-shim is the parent of one container (serve), the keeper of every container's descriptors (keep), and,
// executed again by libcontainer, a container's init (init). Whoever starts it detaches it from its own session.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	// The device rules of cgroups are a plug-in of libcontainer: without it, a container with any is refused.
	_ "github.com/opencontainers/cgroups/devices"
	"github.com/opencontainers/runc/libcontainer"
	// The C part of init: it joins the namespaces before the Go runtime starts.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"

	"github.com/tritond/triton/pkg/probes/exitmap"
	"github.com/tritond/triton/pkg/shim"
)

// version is set at build time.
var version = "dev"

// init is libcontainer's way in, and the one exception to the rule against init functions: a container's init must not
// reach main, nor start threads.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		debug.SetGCPercent(-1) // it lives for some milliseconds; collecting once would start a thread for each of its workers
		runtime.GOMAXPROCS(1)
		runtime.LockOSThread()
		libcontainer.Init()
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "triton-shim:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: triton-shim serve|keep --socket PATH, or version")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	socket := flags.String("socket", "", "path of the Unix socket to serve")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "version" {
		fmt.Println(version)
		return nil
	}
	if *socket == "" {
		return fmt.Errorf("%s: --socket is needed", args[0])
	}
	// A shim outlives its daemon and whatever session that was started from. The signals are caught, not ignored: a
	// container's program would inherit that they are ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	syscall.Umask(0o022) // an exec inherits it
	logs := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("pid", os.Getpid())
	switch args[0] {
	case "serve":
		return shim.Serve(context.Background(), shim.ServerConfig{
			Socket: *socket, Version: version, Logger: logs, LookupExit: lookupExit, Enter: enterPath(),
		})
	case "keep":
		return shim.RunKeeper(context.Background(), shim.KeeperConfig{Socket: *socket, Version: version, Logger: logs})
	}
	return fmt.Errorf("unknown mode %q", args[0])
}

// enterPath is where the program that starts execs lies; empty: it cannot be told.
func enterPath() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Join(filepath.Dir(self), shim.EnterName)
}

// lookupExit asks the daemon's pinned exit map.
func lookupExit(path string, pid int) (shim.ExitStatus, bool, error) {
	st, ok, err := exitmap.Lookup(path, pid)
	return shim.ExitStatus{WaitStatus: st.WaitStatus, At: st.At, Ended: st.Ended}, ok, err
}
