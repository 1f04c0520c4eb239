package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tritond/triton/test/engine"
)

const (
	// atOnce is how many processes crash at once, of atOnceMiB each.
	atOnce    = 10
	atOnceMiB = 128
	// packedPoll spaces the looks at a dump that is compressed anew.
	packedPoll = 100 * time.Millisecond
)

type bench struct {
	daemon  *engine.Tritond
	cli     engine.CLI
	mib     int
	idle    int             // MiB resident, before any crash
	peak    int             // and the most while one process crashes at a time
	most    int             // and while many do
	streams []time.Duration // dropped
	written []time.Duration // to a file
	whole   int             // of atOnce crashes those with all of their memory
	all     time.Duration
}

// crash is what one crash cost.
type crash struct {
	toExit time.Duration // from just before the fault until the shim had reaped the process
	mini   time.Duration // from the daemon's accept until the mini core was on disk
	held   time.Duration // from accept until the process was let go
	memory uint64
	stored uint64
}

func (b *bench) docker(ctx context.Context, args ...string) (string, error) {
	res, err := b.cli.Run(ctx, nil, args...)
	if err != nil {
		return "", err
	}
	if res.Code != 0 && res.Code != 139 {
		return "", fmt.Errorf("docker %q: %d: %s", args, res.Code, res.Stderr)
	}
	return strings.TrimSpace(res.Stdout), nil
}

// crash runs one container to its end.
func (b *bench) crash(ctx context.Context, policy string) (c crash, err error) {
	if err := b.forgetPeak(); err != nil {
		return c, err
	}
	name := "crash-" + policy
	out, err := b.docker(ctx, "run", "--name", name, "--label", "triton.core="+policy, "programs", "crash", "huge", strconv.Itoa(b.mib))
	if err != nil {
		return c, err
	}
	begun, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		return c, fmt.Errorf("the program wrote %q", out)
	}
	finished, err := b.docker(ctx, "inspect", "-f", "{{.State.FinishedAt}}", name)
	if err != nil {
		return c, err
	}
	end, err := time.Parse(time.RFC3339Nano, finished)
	if err != nil {
		return c, err
	}
	c.toExit = end.Sub(time.Unix(0, begun))
	peak, err := b.residentPeak()
	if err != nil {
		return c, err
	}
	b.peak = max(b.peak, peak)
	if policy != "off" {
		if err := b.record(ctx, name, &c); err != nil {
			return c, err
		}
	}
	_, err = b.docker(ctx, "rm", name)
	return c, err
}

type dump struct {
	ID, Name, Body           string
	Packed                   bool
	MemoryBytes, StoredBytes uint64
	MiniAfterNs, HeldForNs   time.Duration
}

// triton asks the own API by the client.
func (b *bench) triton(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.daemon.Bin, "triton"), append([]string{"-H", b.daemon.Host}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("triton %q: %w", args, err)
	}
	return out, nil
}

// record reads what the daemon says of a container's crash, and removes the dump.
func (b *bench) record(ctx context.Context, name string, c *crash) error {
	list, err := b.triton(ctx, "cores", "ls", "container="+name)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(list)), "\n")
	if len(lines) != 2 {
		return fmt.Errorf("%d dumps of %s", len(lines)-1, name)
	}
	id := strings.Fields(lines[1])[0]
	for {
		raw, err := b.triton(ctx, "cores", "show", "-json", id)
		if err != nil {
			return err
		}
		var d dump
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		if c.memory == 0 { // as it was written, before it is compressed anew
			c.mini, c.held, c.memory, c.stored = d.MiniAfterNs, d.HeldForNs, d.MemoryBytes, d.StoredBytes
		}
		if d.Body != "full" || d.Packed { // that takes a processor for seconds, which what is measured next would miss
			_, err = b.triton(ctx, "cores", "rm", id)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(packedPoll):
		}
	}
}

// stream takes the same program's core by the kernel's plain socket, to nowhere or to a file beside the daemon's. The time is from
// accept to the end.
func (b *bench) stream(ctx context.Context, program string, written bool) (took time.Duration, err error) {
	to := io.Discard
	if written {
		path := filepath.Join(b.daemon.Root, "plain.core")
		f, err := os.Create(path)
		if err != nil {
			return 0, err
		}
		defer os.Remove(path)
		defer f.Close()
		to = f
	}
	ours, err := os.ReadFile(corePattern)
	if err != nil {
		return 0, err
	}
	socket := filepath.Join(b.daemon.Root, "plain.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	if err := os.WriteFile(corePattern, []byte("@"+socket), 0); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(corePattern, ours, 0)) }()
	cmd := exec.CommandContext(ctx, program, "huge", strconv.Itoa(b.mib))
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	conn, err := ln.Accept()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{conn}, make([]byte, 1<<20))
	took = time.Since(begun)
	err = errors.Join(err, conn.Close())
	if cmd.Wait() == nil {
		err = errors.Join(err, errors.New("the program did not crash"))
	}
	if n < int64(b.mib)<<19 {
		err = errors.Join(err, fmt.Errorf("%d bytes of a core", n))
	}
	return took, err
}

// together crashes many at a time.
func (b *bench) together(ctx context.Context) error {
	// A daemon anew allows one place in a program whole dumps again.
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	if err := b.daemon.Start(ctx); err != nil {
		return err
	}
	if err := b.forgetPeak(); err != nil {
		return err
	}
	begun := time.Now()
	var group sync.WaitGroup
	errs := make([]error, atOnce)
	for i := range atOnce {
		group.Go(func() {
			_, errs[i] = b.docker(ctx, "run", "--name", fmt.Sprintf("many-%d", i), "programs", "crash", "huge", strconv.Itoa(atOnceMiB))
		})
	}
	group.Wait()
	b.all = time.Since(begun)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	list, err := b.triton(ctx, "cores", "ls", "container~many- body=full")
	if err != nil {
		return err
	}
	b.whole = strings.Count(strings.TrimSpace(string(list)), "\n")
	b.most, err = b.residentPeak()
	return err
}

// forgetPeak has the kernel count the daemon's most resident memory anew.
func (b *bench) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.daemon.Pid()), []byte("5"), 0)
}

// residentPeak is in MiB.
func (b *bench) residentPeak() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.daemon.Pid()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	f := strings.Fields(rest)
	if len(f) == 0 {
		return 0, errors.New("the kernel tells no peak of memory")
	}
	kib, err := strconv.Atoi(f[0])
	return kib >> 10, err
}

func median[T time.Duration | uint64](all []T) T {
	s := slices.Clone(all)
	slices.Sort(s)
	return s[len(s)/2]
}

func pick[T any](all []crash, f func(crash) T) []T {
	var out []T
	for _, c := range all {
		out = append(out, f(c))
	}
	return out
}

// print writes the medians as a table of Markdown.
func (b *bench) print(w io.Writer, all map[string][]crash) {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	fmt.Fprintf(w, "%d MiB process, medians (worst) of %d crashes each, load %s\n\n", b.mib, len(b.streams), load())
	fmt.Fprintln(w, "| dumps | crash to exit | mini core on disk after | held for | memory | stored |\n|---|---|---|---|---|---|")
	exits := func(c crash) time.Duration { return c.toExit }
	for _, policy := range []string{"off", "mini", "full"} {
		cs := all[policy]
		toExit, mini, held := pick(cs, exits), pick(cs, func(c crash) time.Duration { return c.mini }), pick(cs, func(c crash) time.Duration { return c.held })
		fmt.Fprintf(w, "| %s | %s (%s) | %s (%s) | %s (%s) | %d MiB | %d MiB |\n", policy, ms(median(toExit)), ms(slices.Max(toExit)), ms(median(mini)), ms(slices.Max(mini)),
			ms(median(held)), ms(slices.Max(held)), cs[0].memory>>20, median(pick(cs, func(c crash) uint64 { return c.stored }))>>20)
	}
	stream, written := median(b.streams), median(b.written)
	full := median(pick(all["full"], func(c crash) time.Duration { return c.held }))
	fmt.Fprintf(w, "| the kernel's socket stream, read and dropped | | | %s (%s) | | 0 |\n", ms(stream), ms(slices.Max(b.streams)))
	fmt.Fprintf(w, "| the same, written to a file | | | %s (%s) | | %d MiB |\n\n", ms(written), ms(slices.Max(b.written)), all["full"][0].memory>>20)
	off, mini := median(pick(all["off"], exits)), median(pick(all["mini"], exits))
	fmt.Fprintf(w, "full held / stream: %.2f of its time (%.1fx faster; than one that is written %.1fx)\n",
		float64(full)/float64(stream), float64(stream)/float64(full), float64(written)/float64(full))
	fmt.Fprintf(w, "mini - off, crash to exit: %s (bound: 10 %% + 100 ms = %s)\n", ms(mini-off), ms(off/10+100*time.Millisecond))
	fmt.Fprintf(w, "%d crashes of %d MiB at once: %d whole dumps, %s with the runs\n", atOnce, atOnceMiB, b.whole, b.all.Round(10*time.Millisecond))
	fmt.Fprintf(w, "the daemon resident: %d MiB before, at most %d MiB with one crash at a time, %d MiB with %d at once\n", b.idle, b.peak, b.most, atOnce)
}
