package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// hooks runs the Go benchmarks of the probes: a system call in a watched cgroup, beside one under empty programs on the
// same hooks. They need the kernel but no engine.
func (b *bench) hooks(ctx context.Context) error {
	name := "watched system call"
	if b.cfg.alone || !b.cfg.only.MatchString(name) {
		return nil
	}
	b.progress(name)
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "WatchedSyscall", "-count", "3", "./pkg/probes")
	cmd.Dir = b.cfg.repo
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("run the benchmarks of pkg/probes: %w", err)
	}
	least := parseBench(out)
	// The least ratio of several counts is a lucky one; what stands is the ratio of the least costs.
	if empty := least["empty-added-ns"]; empty > 0 {
		for _, what := range []string{"watched", "recorded"} {
			least[what+"/empty"] = least[what+"-added-ns"] / empty
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(least)) {
		b.rows = append(b.rows, row{
			name: name + ", " + unit, target: hookTargets[unit],
			figure: &figure{unit: "", values: []float64{least[unit]}},
		})
	}
	if len(least) == 0 {
		b.notes = append(b.notes, "pkg/probes has no benchmark of a watched system call.")
	}
	return nil
}

// hookTargets are the project's, by the unit that the benchmark reports; recorded is what --probes detail does.
var hookTargets = map[string]string{"recorded/empty": "at most 2.5"}

// parseBench returns the least value of each unit in the lines that go test prints for benchmarks.
func parseBench(out []byte) map[string]float64 {
	least := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		// Name, iterations, then pairs of value and unit.
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				continue
			}
			if old, ok := least[f[i+1]]; !ok || v < old {
				least[f[i+1]] = v
			}
		}
	}
	return least
}
