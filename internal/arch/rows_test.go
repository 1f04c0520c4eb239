package arch

import (
	"strings"
	"testing"
)

// rows orders the packages: one may import those of lower rows only. Packages below a listed one belong to it.
var rows = map[string]int{
	"bpf": 0, "pkg/procfs": 0, "pkg/triton": 0, "web": 0,
	"pkg/auth": 1, "pkg/question": 1, "pkg/backtrace": 1, "pkg/cgroup": 1, "pkg/cluster": 1, "pkg/journal": 1, "pkg/sched": 1, "pkg/durable": 1, "pkg/telemetry": 1, "pkg/throttle": 1, "pkg/shim": 1,
	"pkg/archive": 2, "pkg/probes": 2, "pkg/coredump": 2, "pkg/crashgroup": 2, "pkg/death": 2, "pkg/host": 2, "pkg/image": 2, "pkg/network": 2, "pkg/placement": 2, "pkg/profile": 2, "pkg/volume": 2, "pkg/runtime": 2,
	"pkg/node":      3,
	"pkg/fleet":     4,
	"pkg/dockerapi": 5, "pkg/dashboard": 5, "pkg/tritonapi": 5,
	"cmd": 6,
	// Tools for tests, which no product code may import.
	"test": 7, "tools": 7, "internal/arch": 7,
}

// family returns the listed package that path is or lies below, and its row.
func family(path string) (name string, row int, ok bool) {
	for name = path; name != ""; {
		if row, ok = rows[name]; ok {
			return name, row, true
		}
		cut := strings.LastIndex(name, "/")
		if cut < 0 {
			break
		}
		name = name[:cut]
	}
	return "", 0, false
}

func importsGoDownOnly(t *testing.T, packs []pack) {
	for _, p := range packs {
		name, row, ok := family(p.path())
		if !ok {
			t.Errorf("%s is in no row: add it to docs/architecture.md and to this test", p.path())
			continue
		}
		for _, imp := range p.Imports {
			below, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			other, otherRow, _ := family(below)
			if other != name && otherRow >= row {
				t.Errorf("%s (row %d) imports %s (row %d): imports go down only", p.path(), row, below, otherRow)
			}
		}
	}
}

// TestShimStaysSmall: there is one shim per container, and running ones are never upgraded. What it links costs memory
// for every container and must be right for years.
func TestShimStaysSmall(t *testing.T) {
	banned := []string{"github.com/containerd/containerd", "go.etcd.io", "net/http", "github.com/prometheus", "google.golang.org/grpc"}
	for _, target := range []string{"./pkg/shim", "./cmd/triton-shim"} {
		deps := strings.Fields(string(goList(t, "-deps", target)))
		if len(deps) < 20 {
			t.Errorf("%s: only %d dependencies listed", target, len(deps))
		}
		for _, dep := range deps {
			for _, ban := range banned {
				if dep == ban || strings.HasPrefix(dep, ban+"/") {
					t.Errorf("%s depends on %s", target, dep)
				}
			}
		}
	}
}

// TestClientStaysThin: the client starts in the time of its package initialisation.
func TestClientStaysThin(t *testing.T) {
	count := map[string]int{}
	for _, dep := range strings.Fields(string(goList(t, "-deps", "./cmd/triton"))) {
		for _, ban := range []string{"github.com/containerd/containerd", "go.etcd.io", "github.com/cilium/ebpf", module + "/pkg/node"} {
			if dep == ban || strings.HasPrefix(dep, ban+"/") {
				count[ban]++
			}
		}
	}
	for ban, n := range count {
		t.Errorf("cmd/triton depends on %d packages of %s", n, ban)
	}
}
