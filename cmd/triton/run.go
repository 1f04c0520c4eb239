package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// version is set by the linker.
var version = "dev"

const usage = `Usage: triton [-H HOST] [-t TENANT] COMMAND

  version              versions of this client and of the daemon
  syscalls CONTAINER   what a container asked of the kernel: calls, errors, latency, and what its tasks waited for (also 10
                       minutes after its end)
  explain CONTAINER    why it was placed where it is, and what it was expected to use (--json)
  delays [CONTAINER]   who had the CPU while containers waited for it, in seconds per second (-d TIME: how long to look)
  dns CONTAINER        which names it asks for, what name servers answer, and how fast (-json)
  disks CONTAINER      how long its requests to each block device take (-d TIME: how long to look, 5s; 0: since its start; -json)
  flows CONTAINER      whom it talks to, how much, and what went wrong; its open connections (-json)
  map                  which containers ask which, and how it goes (-d TIME: how long to look, 2s; -json; -a: of all tenants)
  recorder CONTAINER   the last 64 system calls of each of its threads (--json)
  profile CONTAINER    what it is busy with, to cpu.pprof for go tool pprof (-d 30s how long, 10s; --off-cpu what it waits
                       for; -o FILE, - for the output)
  trace CONTAINER      its system calls as they happen (-syscall 'open*,stat', -errors, -slower 5ms, -comm NAME;
                       -args: paths, addresses and the beginning of buffers; -json)
  ask METRIC           your own question: syscall, block, runqueue or tcp (-where 'comm=nginx && errno!=0', -by container,latency:
                       what is told apart; -d TIME: all of it at the end, -json)
  login                print a link that logs the browser in that opens it first
  tenant VERB …        tenants, their certificates and tokens: add, ls, token, revoke, rm
  deaths ls            abnormal ends of containers, newest first, each with its reason
  deaths show REF      one of them, by its id or by its container (-json: all that is known)
  cores ls [QUERY]     core dumps of containers, newest first: 'signal=SIGSEGV image=web mtime<2d frame~parse_'
  cores show DUMP      what is known of one (-json: all of it)
  cores pull DUMP      write its core file to core.DUMP (-o FILE, - for the output; -mini for the mini core;
                       -bundle for core, program and libraries with open.sh, to bundle.DUMP.tar.zst)
  cores bt DUMP        the stack of the thread that crashed (-all: of all threads; -json)
  cores gdb DUMP ARG…  open the bundle in gdb, or dlv for Go programs
  cores rm DUMP...     delete dumps
  cores groups         crashes that are one bug: how often, since when, new, known, resolved or regressed (-json);
                       show GROUP has the images and dumps of one; resolve GROUP... says that it is no more in images
                       beyond those that crashed so far, reopen GROUP... takes that back
  snapshot CONTAINER   core of its first process, which goes on (-pid N another; -mini stacks only; -max-pause 10s)
  watch CONTAINER      how much of it is measured (-level detail|sampled|counters|off changes it at once, default: as this machine)
  probes               what is measured, what this kernel refused, what was dropped

TENANT is whom an operator acts for; default: the caller's own
With DOCKER_TLS_VERIFY and DOCKER_CERT_PATH set, tcp:// is TLS with the certificate in that directory.
HOST is unix:///PATH or tcp://HOST:PORT; default: $DOCKER_HOST, else unix:///run/tritond/docker.sock
`

// run returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(args []string) int {
	if len(args) == 1 && args[0] == pluginQuestion {
		fmt.Println(pluginAnswer())
		return 0
	}
	fs := flag.NewFlagSet("triton", flag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	host := fs.String("H", "", "address of the daemon")
	fs.StringVar(host, "host", "", "address of the daemon") // as docker passes it to its plugins
	tenant := fs.String("t", "", "tenant to act for")
	short := fs.Bool("version", false, "print the client's version and exit")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if *short {
		fmt.Println("triton", version)
		return 0
	}
	if *host == "" {
		*host = os.Getenv("DOCKER_HOST")
	}
	if *host == "" {
		*host = defaultHost
	}
	c, err := newClient(*host)
	if err == nil {
		c.tenant = *tenant
		err = dispatch(c, ownArgs(filepath.Base(os.Args[0]), fs.Args()), os.Stdout)
	}
	var wrong usageError
	if errors.As(err, &wrong) {
		fmt.Fprintf(os.Stderr, "triton: %v\n\n%s", err, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "triton: %v\n", err)
		return 1
	}
	return 0
}

// usageError is a mistake in the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

func dispatch(c *client, args []string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch {
	case len(args) == 1 && args[0] == "version":
		return showVersion(ctx, c, out)
	case len(args) == 1 && args[0] == "probes":
		return showProbes(ctx, c, out)
	case len(args) == 1 && args[0] == "login":
		return showLogin(ctx, c, out)
	case len(args) > 0 && args[0] == "tenant":
		return tenantCommand(ctx, c, args[1:], out)
	case len(args) == 2 && args[0] == "syscalls":
		return showSyscalls(ctx, c, args[1], out)
	case len(args) > 1 && args[0] == "explain":
		return explain(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "recorder":
		return recorder(ctx, c, args[1:], out)
	case len(args) > 0 && args[0] == "profile":
		return takeProfile(context.Background(), c, args[1:], out)
	case len(args) > 1 && args[0] == "trace":
		return trace(c, args[1:], out, os.Stderr)
	case len(args) > 1 && args[0] == "ask":
		return ask(c, args[1:], out, os.Stderr)
	case len(args) > 0 && args[0] == "delays":
		return delays(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "dns":
		return askedNames(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "disks":
		return disks(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "flows":
		return flows(ctx, c, args[1:], out)
	case len(args) > 0 && args[0] == "map":
		return serviceMap(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "watch":
		return watch(ctx, c, args[1:], out)
	case len(args) > 1 && args[0] == "cores":
		return cores(c, args[1], args[2:], out)
	case len(args) > 1 && args[0] == "snapshot":
		return snapshot(c, args[1:], out)
	case len(args) > 1 && args[0] == "deaths":
		return deaths(ctx, c, args[1], args[2:], out)
	case len(args) == 0:
		return usageError("no command")
	}
	return usageError(fmt.Sprintf("unknown command or wrong number of arguments: %q", args))
}

func showVersion(ctx context.Context, c *client, out io.Writer) error {
	fmt.Fprintf(out, "client: %s\n", version)
	var v wire.Version
	if err := c.get(ctx, wire.Prefix+"version", &v); err != nil {
		return err
	}
	fmt.Fprintf(out, "daemon: %s (%s), instance %s, since %s\n", v.Version, v.Commit, v.Instance, v.Started.Format(time.RFC3339))
	return nil
}

func showLogin(ctx context.Context, c *client, out io.Writer) error {
	var l wire.LoginLink
	if err := c.do(ctx, http.MethodPost, wire.LoginLinkPath, nil, &l); err != nil {
		return err
	}
	fmt.Fprintln(out, l.Link)
	return nil
}

// showProbes prints what is measured and what that costs.
func showProbes(ctx context.Context, c *client, out io.Writer) error {
	var p wire.Probes
	if err := c.get(ctx, wire.Prefix+"probes", &p); err != nil {
		return err
	}
	printLevel(out, &p, time.Now())
	for _, c := range p.Programs {
		fmt.Fprintf(out, "program %s: %.0f runs a second, %.3f%% of one CPU\n", c.Program, c.Runs, 100*c.CPU)
	}
	for _, m := range p.Missing {
		fmt.Fprintf(out, "missing: %s: %s\n", m.Program, m.Reason)
	}
	names := make([]string, 0, len(p.Drops))
	for name := range p.Drops {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "dropped %s: %d\n", name, p.Drops[name])
	}
	return nil
}

// showSyscalls prints the most frequent call first.
func showSyscalls(ctx context.Context, c *client, ref string, out io.Writer) error {
	var o wire.Observed
	if err := c.get(ctx, wire.ObservedPath(ref), &o); err != nil {
		return err
	}
	names := make([]string, 0, len(o.Syscalls))
	for name := range o.Syscalls {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := int64(o.Syscalls[b].Count) - int64(o.Syscalls[a].Count); d != 0 {
			return int(max(-1, min(1, d)))
		}
		return int(max(-1, min(1, int64(len(a)-len(b)))))
	})
	for _, m := range o.Missing {
		fmt.Fprintf(out, "not measured: %s: %s\n", m.Program, m.Reason)
	}
	switch {
	case o.Level == "counters" || o.Level == "off":
		fmt.Fprintf(out, "not measured now: the container is at level %s (triton watch)\n", o.Level)
	case o.Counted == 0 && o.Level == "sampled":
		fmt.Fprintln(out, "not measured yet: the container is at level sampled, and no window was in its time")
	}
	if o.Counted > 0 && o.Counted < 1 {
		off := "how far their number is off is not known yet"
		if o.Off > 0 {
			off = fmt.Sprintf("their number is off by %.2g%% at most, in 95 of 100 cases", 100*o.Off)
		}
		fmt.Fprintf(out, "estimates: system calls were counted in %.1f%% of the time; %s\n", 100*o.Counted, off)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SYSCALL\tCALLS\tERRORS\tMEAN\tP50\tP99")
	for _, name := range names {
		s := o.Syscalls[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", name, s.Count, s.Errors, seconds(s.Mean()), seconds(s.P50), seconds(s.P99))
	}
	fmt.Fprintf(w, "\nrun queue\t%d\t\t\t%s\t%s\n", o.RunQueue.Count, seconds(o.RunQueue.P50), seconds(o.RunQueue.P99))
	fmt.Fprintf(w, "\nOFF CPU\tSECONDS\n")
	fmt.Fprintf(w, "run queue\t%.3f\n", o.RunQueue.Sum)
	reasons := slices.SortedFunc(maps.Keys(o.Waits), func(a, b string) int {
		return cmp.Or(cmp.Compare(o.Waits[b], o.Waits[a]), cmp.Compare(a, b))
	})
	for _, reason := range reasons {
		fmt.Fprintf(w, "%s\t%.3f\n", reason, o.Waits[reason])
	}
	return w.Flush()
}

// seconds prints a duration in the unit that fits; negative: not known.
func seconds(s float64) string {
	if s < 0 {
		return "-"
	}
	d := time.Duration(s * float64(time.Second))
	unit := time.Nanosecond // of the third digit: more of them would tell less of what is a bucket's bound
	for ; d >= 1000*unit; unit *= 10 {
	}
	return d.Round(unit).String()
}
