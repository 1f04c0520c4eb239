package main

import (
	"fmt"
	"strconv"
	"strings"
)

// part is one table: benchmarks, and what their values say.
type part struct {
	name, title string
	benchmarks  []benchmark
	rows        func(values) []row
}

// benchmark is a Go benchmark. One iteration is one round of all its variants.
type benchmark struct {
	pack, name string
	rounds     int
}

// row is one line of a table.
type row struct{ what, least, median, goal string }

var parts = []part{
	{
		name: "calls", title: "A system call (getppid) in a container, CPU time",
		benchmarks: []benchmark{{"./pkg/probes", "BenchmarkKernelSyscall", 20}}, rows: callRows,
	},
	{
		name: "waits", title: "Accounting of the run queue: a byte to and fro between two processes on one CPU, CPU time",
		benchmarks: []benchmark{{"./pkg/probes", "BenchmarkKernelPingPong", 25}}, rows: waitRows,
	},
	{
		name: "connections", title: "A TCP connection of a container to itself, opened, accepted and closed, CPU time",
		benchmarks: []benchmark{{"./pkg/probes", "BenchmarkKernelConnection", 15}}, rows: connectionRows,
	},
	{
		name: "profile", title: "A profile of a container that has a CPU to itself, 99 Hz",
		benchmarks: []benchmark{{"./pkg/probes", "BenchmarkKernelProfiled", 25}, {"./pkg/probes", "BenchmarkKernelProfile", 50}}, rows: profileRows,
	},
	{
		name: "memory", title: "Memory, 1,000 containers of 50 system calls",
		benchmarks: []benchmark{{"./pkg/probes", "BenchmarkKernelMapMemory", 1}, {"./pkg/telemetry", "BenchmarkMemoryPerContainer", 1}}, rows: memoryRows,
	},
}

// values are what benchmarks report, by unit.
type values map[string]float64

// add reads the lines that go test prints for benchmarks: name, iterations, then pairs of value and unit.
func (v values) add(out []byte) error {
	n := len(v)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			x, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return fmt.Errorf("line %q: %w", line, err)
			}
			v[f[i+1]] = x
		}
	}
	if len(v) == n {
		return fmt.Errorf("no values in %q", out)
	}
	return nil
}

// stat is the least or the median of each variant.
type stat struct {
	values
	of string
}

func (s stat) ns(variant string) float64    { return s.values[variant+"-"+s.of+"-ns"] }
func (s stat) added(variant string) float64 { return s.ns(variant) - s.ns("none") }

// both makes a row of a text for the least and for the median.
func (v values) both(what, goal string, text func(stat) string) row {
	return row{what, text(stat{v, "least"}), text(stat{v, "median"}), goal}
}

// windowShare is that of the time in which calls are counted at level sampled: probes.Config.
const windowShare = 0.1

func callRows(v values) []row {
	rows := []row{v.both("no hooks", "", func(s stat) string { return fmt.Sprintf("%.0f ns", s.ns("none")) })}
	added := func(what, variant, goal string) {
		if _, there := v[variant+"-least-ns"]; !there {
			return
		}
		rows = append(rows, v.both(what, goal, func(s stat) string {
			return fmt.Sprintf("%+.0f ns, %.2f of an empty pair", s.added(variant), s.added(variant)/s.added("empty"))
		}))
	}
	added("an empty pair of hooks", "empty", "")
	added("counters", "counters", "")
	added("sampled, in its window", "sampled-in-its-window", "")
	rows = append(rows, v.both("sampled, 1 s of every 10 s", "", func(s stat) string {
		mean := windowShare*s.added("sampled-in-its-window") + (1-windowShare)*s.added("counters")
		return fmt.Sprintf("%+.0f ns, %.2f of an empty pair", mean, mean/s.added("empty"))
	}))
	added("detail without the flight recorder", "detail-unrecorded", "")
	added("detail", "detail", "at most 2.5 of an empty pair")
	added("a process of no container, beside detail", "beside-detail", "")
	added("a live trace of every call", "traced", "")
	added("a process of no container, beside that trace", "beside-a-trace", "")
	added("a live trace of errors", "traced-errors-only", "")
	added("a process of no container, beside that trace", "beside-a-trace-of-errors", "")
	added("bpftrace's one-liner for a container's calls", "bpftrace", "")
	added("a process of no container, beside bpftrace", "beside-bpftrace", "")
	if _, there := v["bpftrace-least-ns"]; there {
		rows = append(rows, v.both("detail's part of bpftrace's", "at most 0.33", func(s stat) string {
			return fmt.Sprintf("%.2f", s.added("detail")/s.added("bpftrace"))
		}))
	}
	return rows
}

func waitRows(v values) []row {
	ratio := func(what, variant, goal string) row {
		return v.both(what, goal, func(s stat) string {
			return fmt.Sprintf("%.0f ns, %.3f times", s.ns(variant), s.ns(variant)/s.ns("none"))
		})
	}
	return []row{
		ratio("no hook", "none", ""), ratio("an empty hook", "empty", ""),
		ratio("accounted, with waits by reason and who delays whom", "accounted", "at most 1.05 times"),
	}
}

func connectionRows(v values) []row {
	var rows []row
	for _, r := range []struct{ what, variant string }{
		{"no probes", "none"}, {"remotes and datagrams counted", "flows"}, {"--metrics-network and --metrics-dns too", "flows-network-dns"},
		{"and system calls in detail", "everything"},
	} {
		rows = append(rows, v.both(r.what, "", func(s stat) string {
			return fmt.Sprintf("%.2f us, %.0f/s, %.3f times", s.ns(r.variant)/1000, 1e9/s.ns(r.variant), s.ns(r.variant)/s.ns("none"))
		}))
	}
	return rows
}

func profileRows(v values) []row {
	share := func(what, unit string) row { return row{what: what, median: fmt.Sprintf("%.3f %%", v[unit])} }
	return []row{
		v.both("time per call more than without", "at most 0.5 %", func(s stat) string {
			return fmt.Sprintf("%.2f %%", 100*s.added("profiled")/s.ns("none"))
		}),
		share("of that CPU, the program, by the kernel's clock", "program-%-of-a-CPU"),
		share("of a CPU, the reader", "reader-%-of-a-CPU"),
	}
}

func memoryRows(v values) []row {
	mib := func(what, unit, goal string) row {
		return row{what: what, least: fmt.Sprintf("%.1f MiB", v[unit]), goal: goal}
	}
	return []row{
		mib("maps that are always there, flight recorder included", "measure-MiB", "all together at most 256 MiB on 2 CPUs"),
		mib("maps of --metrics-per-peer and --metrics-network", "peers-and-network-MiB", ""),
		mib("maps while profiles are taken", "profile-MiB", ""),
		mib("the ring of a live trace", "trace-MiB", ""),
		{what: "more for each CPU beyond the fourth", least: fmt.Sprintf("%.1f KiB", v["KiB/CPU"]), goal: "less than linear"},
		{what: "heap of the daemon's telemetry per container", least: fmt.Sprintf("%.1f KiB", v["bytes/container"]/1024), goal: "at most 64 KiB"},
	}
}
