package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
)

// hooks runs the Go benchmarks of the probes: a system call in a watched cgroup, beside one under empty programs on the
// same hooks. They need the kernel but no engine.
func (b *bench) hooks(ctx context.Context) error {
	name := "watched system call"
	if b.cfg.alone || !b.cfg.only.MatchString(name) {
		return nil
	}
	b.progress(name)
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Syscall", "-count", "5", "./pkg/probes")
	cmd.Dir = b.cfg.repo
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.notes = append(b.notes, "The benchmarks of pkg/probes did not run: "+err.Error())
		return nil
	}
	fastest := parseBench(out)
	var names []string
	for n := range fastest {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		b.rows = append(b.rows, row{
			name: n, target: "watched at most 3 times empty hooks (minima)",
			figure: &figure{unit: "ns, least of 5", values: []float64{fastest[n]}},
		})
	}
	if len(names) == 0 {
		b.notes = append(b.notes, "pkg/probes has no benchmark named Syscall.")
	}
	return nil
}

// parseBench returns the least ns/op of each benchmark in the output of go test.
func parseBench(out []byte) map[string]float64 {
	least := map[string]float64{}
	line := regexp.MustCompile(`(?m)^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)
	for _, m := range line.FindAllSubmatch(bytes.TrimSpace(out), -1) {
		ns, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			continue
		}
		if old, ok := least[string(m[1])]; !ok || ns < old {
			least[string(m[1])] = ns
		}
	}
	return least
}
