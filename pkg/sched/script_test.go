package sched

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/*.txt")

// TestScripts runs testdata/*.txt. A file is one fleet; commands come one per line, answers after a line ----, up to an empty
// line:
//
//	node NAME cpu=4 mem=8 [label=k=v ...] [taint=t] [drain] [image=i] [volume=v] [disk=GiB] [net=B/s]   memory in GiB
//	frame NAME cpu=3.5 mem=1 [runq=5ms] [cpupsi=0.2] [mempsi=0.1] [iopsi=0.1] [disk=GiB] [net=B/s] [use=ID:CORES ...]
//	history IMAGE cpu=0.5 mem=1 [night=4] [days=3] [cpureq=1]    night: cores used from 00:00 to 02:00
//	crash IMAGE NODE [TENANT]    park NAME    delay CULPRIT VICTIM SHARE    quota TENANT [cpu=] [mem=] [containers=]    seconds N    drop NAME
//	run NODE NAME ...   place NAME ...     image= cpu= mem= [c=constraint ...] [port=80/tcp] [volume=v] [spread=label] [pack]
//	                                       [sensitive] [priority=] [tolerates=t] [label=k=v] [tenant=t] [disk=GiB] [besteffort]
//	                                       [maxcpu=]
//	explain NAME ...    rebalance          like place, with all the text
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScript(t).run(string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

type script struct {
	t   *testing.T
	s   *Snapshot
	h   *History
	now time.Time
}

func newScript(t *testing.T) *script {
	h := NewHistory()
	sc := &script{t: t, h: h, s: New(Config{}, h, 1), now: time.Unix(20*24*3600+12*3600, 0).UTC()} // noon
	sc.s.Advance(sc.now)
	return sc
}

// run returns the text with its answers replaced by those given.
func (sc *script) run(text string) string {
	var out, answer strings.Builder
	asked := false
	flush := func() {
		if asked {
			out.WriteString("----\n" + answer.String())
		}
		answer.Reset()
		asked = false
	}
	skip := false
	for _, line := range strings.SplitAfter(text, "\n") {
		bare := strings.TrimSuffix(line, "\n")
		switch {
		case bare == "----":
			skip = true
			continue
		case bare == "" && line != "":
			flush()
			skip = false
		case skip:
			continue
		case bare != "" && bare[0] != '#':
			a, ok := sc.do(strings.Fields(bare))
			answer.WriteString(a)
			asked = asked || ok
		}
		out.WriteString(line)
	}
	flush()
	return out.String()
}

type args struct {
	t      *testing.T
	values map[string][]string
}

func (a args) num(key string) float64 {
	if len(a.values[key]) == 0 {
		return 0
	}
	v, err := strconv.ParseFloat(a.values[key][0], 64)
	if err != nil {
		a.t.Fatalf("%s: %v", key, err)
	}
	return v
}

func (a args) has(key string) bool  { return len(a.values[key]) > 0 }
func (a args) gib(key string) int64 { return int64(a.num(key) * (1 << 30)) }
func (a args) pairs(key string) map[string]string {
	m := map[string]string{}
	for _, v := range a.values[key] {
		k, v, _ := strings.Cut(v, "=")
		m[k] = v
	}
	return m
}

func parseArgs(t *testing.T, fields []string) args {
	a := args{t, map[string][]string{}}
	for _, f := range fields {
		if k, v, ok := strings.Cut(f, "="); ok || slices.Contains([]string{"drain", "pack", "sensitive", "besteffort"}, f) {
			a.values[k] = append(a.values[k], v)
		}
	}
	return a
}

// do runs one command; ok: it has an answer.
func (sc *script) do(f []string) (answer string, ok bool) {
	arg := func(i int) string {
		if i >= len(f) {
			sc.t.Fatalf("%v: too short", f)
		}
		return f[i]
	}
	a := parseArgs(sc.t, f[1:])
	switch f[0] {
	case "node":
		_, drain := a.values["drain"]
		sc.check(sc.s.SetNode(Node{Name: arg(1), CPU: a.num("cpu"), Memory: a.gib("mem"), Disk: a.gib("disk"), Network: a.num("net"),
			Labels: a.pairs("label"), Taints: a.values["taint"], Draining: drain, Images: a.values["image"], Volumes: a.values["volume"]}))
	case "frame":
		sc.frame(arg(1), a)
	case "history":
		sc.history(arg(1), a)
	case "crash":
		tenant := triton.DefaultTenant
		if len(f) > 3 {
			tenant = triton.Tenant(f[3])
		}
		sc.h.Crashed(Origin{Tenant: tenant, Image: arg(1)}, arg(2))
		sc.s.Refresh()
	case "delay":
		v, err := strconv.ParseFloat(arg(3), 64)
		sc.check(err)
		sc.s.SetDelay(arg(1), arg(2), v)
	case "quota":
		sc.s.SetQuota(triton.Tenant(arg(1)), Quota{CPU: a.num("cpu"), Memory: a.gib("mem"), Containers: int(a.num("containers"))})
	case "seconds":
		n, err := strconv.Atoi(arg(1))
		sc.check(err)
		sc.now = sc.now.Add(time.Duration(n) * time.Second)
		sc.s.Advance(sc.now)
	case "park":
		sc.s.Park(triton.ContainerKey{Tenant: triton.DefaultTenant, ID: arg(1)})
	case "drop":
		sc.s.DropNode(arg(1))
	case "run":
		_, err := sc.s.Assign(arg(1), sc.request(arg(2), a))
		sc.check(err)
	case "place", "explain":
		return sc.place(f[0], sc.request(arg(1), a)), true
	case "rebalance":
		for _, m := range Rebalance(sc.s, 10) {
			answer += fmt.Sprintf("%s: %s -> %s: %s\n", m.Key.ID, m.From, m.To, m.Reason)
		}
		return answer, true
	default:
		sc.t.Fatalf("unknown command %v", f)
	}
	return "", false
}

func (sc *script) check(err error) {
	sc.t.Helper()
	if err != nil {
		sc.t.Fatal(err)
	}
}

func (sc *script) frame(node string, a args) {
	runq := time.Duration(0)
	if a.has("runq") {
		var err error
		runq, err = time.ParseDuration(a.values["runq"][0])
		sc.check(err)
	}
	sc.now = sc.now.Add(time.Millisecond)
	sc.s.Advance(sc.now)
	var use []ContainerUse
	for _, u := range a.values["use"] {
		f := strings.Split(u, ":")
		cpu, err := strconv.ParseFloat(f[1], 64)
		sc.check(err)
		use = append(use, ContainerUse{Key: triton.ContainerKey{Tenant: triton.DefaultTenant, ID: f[0]}, CPU: cpu, Memory: 64 << 20})
	}
	sc.check(sc.s.Report(Frame{Node: node, Time: sc.now, Over: nowMemory, Containers: use, CPU: a.num("cpu"), Memory: a.gib("mem"), Disk: a.gib("disk"),
		Net: a.num("net"), RunQ: runq, CPUPSI: a.num("cpupsi"), MemPSI: a.num("mempsi"), IOPSI: a.num("iopsi"), Acked: 1 << 60}))
}

func (sc *script) history(image string, a args) {
	days := max(1, int(a.num("days")))
	for h := range 24 * days {
		cpu := a.num("cpu")
		if a.has("night") && h%24 < 2 {
			cpu = a.num("night")
		}
		mem := float64(a.gib("mem"))
		sc.h.Observe(Origin{Image: image}, int64(h), a.num("cpureq"), HourUse{CPUMean: cpu, CPUVar: 0.01 * cpu, MemMean: mem, MemPeak: mem})
	}
	sc.s.Refresh()
}

func (sc *script) request(name string, a args) Request {
	tenant := triton.DefaultTenant
	if a.has("tenant") {
		tenant = triton.Tenant(a.values["tenant"][0])
	}
	image := "scratch"
	if a.has("image") {
		image = a.values["image"][0]
	}
	_, pack := a.values["pack"]
	_, sensitive := a.values["sensitive"]
	_, bestEffort := a.values["besteffort"]
	r := Request{Key: triton.ContainerKey{Tenant: tenant, ID: name}, Name: name, Image: image, CPU: a.num("cpu"), Memory: a.gib("mem"),
		Disk: a.gib("disk"), Labels: a.pairs("label"), Tolerates: a.values["tolerates"], Volumes: a.values["volume"],
		LatencySensitive: sensitive, Priority: int(a.num("priority")), MaxCPU: a.num("maxcpu"), MaxMemory: a.gib("maxmem"), BestEffort: bestEffort}
	if pack {
		r.Strategy = Pack
	}
	if a.has("spread") {
		r.SpreadBy = a.values["spread"][0]
	}
	for _, text := range a.values["c"] {
		c, err := ParseConstraint(text)
		sc.check(err)
		r.Constraints = append(r.Constraints, c)
	}
	for _, p := range a.values["port"] {
		number, proto, _ := strings.Cut(p, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		sc.check(err)
		r.Ports = append(r.Ports, Port{proto, uint16(n)})
	}
	return r
}

func (sc *script) place(how string, r Request) string {
	d, err := Place(sc.s, r)
	if how == "explain" {
		return d.Explain()
	}
	if err != nil {
		return "refused: " + d.Why() + "\n"
	}
	answer := d.Node
	for _, r := range d.Despite {
		answer += " despite " + r.Text
	}
	for i, c := range d.Candidates {
		sep := ","
		if i == 0 {
			sep = "  ("
		}
		answer += fmt.Sprintf("%s %s %.3f", sep, c.Node, c.Cost)
	}
	return answer + ")\n"
}
