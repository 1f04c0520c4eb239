// Command tritond is the daemon: one per machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// version and commit are set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run returns the exit code: 0 stopped as asked, 1 failed, 2 wrong usage.
func run(args []string) int {
	command := "serve"
	if len(args) > 0 && slices.Contains([]string{"check", "purge", "version"}, args[0]) {
		command, args = args[0], args[1:]
	}
	if command == "version" || slices.Equal(args, []string{"--version"}) || slices.Equal(args, []string{"-version"}) {
		fmt.Printf("tritond %s (%s)\n", version, commit)
		return 0
	}
	cfg, err := parseConfig("tritond "+command, args, os.LookupEnv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tritond: %v\n", err)
		return 2
	}
	log := newLogger(cfg)
	// SIGINT and SIGTERM stop the daemon; containers go on.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch command {
	case "check":
		err = check(ctx, cfg)
	case "purge":
		err = purge(ctx, cfg, log)
	default:
		err = serve(ctx, cfg, log)
	}
	if err != nil {
		log.Error(command+" ended", "err", err)
		return 1
	}
	return 0
}
