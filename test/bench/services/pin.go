package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pin gives server and client a CPU each, from outside: where the kernel moves them to and fro, how many requests a turn of either
// finds waiting changes every few seconds, and with it what a request costs, by a tenth and more.
func (b *bed) pin(ctx context.Context, client string) error {
	top, err := b.docker(ctx, "top", "server", "-o", "pid,comm")
	if err != nil {
		return err
	}
	var pinned [2]int // by CPU
	for line := range strings.Lines(top) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == "PID" {
			continue
		}
		cpu := 0
		if strings.HasPrefix(f[1], client) {
			cpu = 1
		}
		if err := pinThreads(f[0], cpu); err != nil {
			return fmt.Errorf("pin %s: %w", f[1], err)
		}
		pinned[cpu]++
	}
	if pinned[0] == 0 || pinned[1] == 0 {
		return fmt.Errorf("pin server and %s: of %q one does not run", client, top)
	}
	return nil
}

func pinThreads(pid string, cpu int) error {
	threads, err := os.ReadDir(filepath.Join("/proc", pid, "task"))
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return err
		}
	}
	return nil
}
