package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// tool is a program of Debian's package prometheus, which tools/deps unpacks without installing it: the package would
// start a service.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../.cache/prometheus/usr/bin/" + name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: make deps provides it", err)
	}
	return path
}

const (
	rulesFile     = "../../deploy/prometheus/triton.rules.yml"
	dashboardFile = "../../deploy/grafana/triton-containers.json"
)

func TestRulesAndConfigurationAreValid(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"check", "config", "../../deploy/prometheus/prometheus.yml"}} {
		if out, err := exec.Command(tool(t, "promtool"), args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// store is one that has sampled a container; the numbers grow with each pass.
func store(t *testing.T) *telemetry.Store {
	t.Helper()
	s := telemetry.New(telemetry.Config{
		Node: "n1", Interval: 50 * time.Millisecond,
		Drops:   func() map[string]uint64 { return map[string]uint64{"ring": 1} },
		Missing: func() []string { return []string{"oom_kills"} }, // one without series of its own
	})
	began, calls := time.Now(), uint64(0)
	s.Add(triton.ContainerKey{Tenant: triton.DefaultTenant, ID: triton.NewID()}, "web", "nginx", func() (telemetry.Sample, error) {
		calls += 100
		counts := make([]uint64, 145)
		counts[57] = calls
		h := triton.Histogram{Schema: 2, First: -96, Counts: counts, SumNs: calls * 1e6}
		return telemetry.Sample{
			Time: time.Now(), Started: began, Durations: h, RunQueue: h, Counters: telemetry.Counters{Syscalls: calls},
			Usage: triton.Usage{CPUTotal: time.Duration(calls) * time.Millisecond, MemoryLimit: 1 << 30, CPUPeriods: calls},
		}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// server is a Prometheus that scrapes target each second, with the rules of deploy/.
type server struct{ url string }

func startPrometheus(t *testing.T, target string) *server {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: triton, static_configs: [{targets: [%q]}]}]\n", rules, target)
	if err := os.WriteFile(dir+"/prometheus.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(tool(t, "prometheus"), "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data",
		"--web.listen-address="+address, "--enable-feature=native-histograms")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Kill(), cmd.Wait()); t.Failed() {
			t.Logf("prometheus: %v\n%s", err, log.Bytes())
		}
	})
	return &server{"http://" + address}
}

// get asks for path and decodes the data of the answer.
func (s *server) get(path string, query url.Values, data any) error {
	r, err := http.Get(s.url + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", r.Status, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}

type vector struct {
	Result []struct {
		Metric map[string]string
		Value  [2]any
	}
}

func (s *server) query(expr string) (vector, error) {
	var v vector
	err := s.get("/api/v1/query", url.Values{"query": {expr}}, &v)
	return v, err
}

// dashboard lists the queries of the dashboard, its variables filled in.
func dashboard(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	var exprs []string
	fill := strings.NewReplacer("$__rate_interval", "1m", "$name", ".*")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("panel %s has an empty query", p.Title)
			}
			exprs = append(exprs, fill.Replace(target.Expr))
		}
	}
	return exprs
}

// rules lists the expressions of the rules as the server loaded them.
func (s *server) rules(t *testing.T) []string {
	t.Helper()
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Query, Health, LastError string }
		}
	}
	if err := s.get("/api/v1/rules", nil, &loaded); err != nil {
		t.Fatal(err)
	}
	var exprs []string
	for _, g := range loaded.Groups {
		for _, r := range g.Rules {
			if r.Health == "err" {
				t.Errorf("rule %s: %s", r.Name, r.LastError)
			}
			exprs = append(exprs, r.Query)
		}
	}
	return exprs
}

// metricName finds the names of ours in an expression.
var metricName = regexp.MustCompile(`\b(?:container|triton|process)_[a-z0-9_]+\b`)

func TestPrometheusHasEverySeriesThatDashboardAndRulesName(t *testing.T) {
	metrics := httptest.NewServer(store(t).Handler())
	t.Cleanup(metrics.Close)
	s := startPrometheus(t, metrics.Listener.Addr().String())
	eventually(t, "rates of what was scraped", func() bool {
		v, err := s.query(`rate(triton_container_syscalls_total{name="web",image="nginx",id=~"/docker/.*"}[1m]) > 0`)
		return err == nil && len(v.Result) == 1
	})
	var names []string
	if err := s.get("/api/v1/label/__name__/values", nil, &names); err != nil {
		t.Fatal(err)
	}
	// A native scrape takes no classic buckets: queries name both, for servers with and without native histograms.
	names = append(names, classicNames(t, metrics.URL)...)
	exprs := append(dashboard(t), s.rules(t)...)
	if len(exprs) < 30 {
		t.Errorf("only %d expressions", len(exprs))
	}
	for _, expr := range exprs {
		if _, err := s.query(expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
		used := metricName.FindAllString(expr, -1)
		if len(used) == 0 && !strings.HasPrefix(expr, "up{") {
			t.Errorf("%s names no metric", expr)
		}
		for _, name := range used {
			if !slices.Contains(names, name) {
				t.Errorf("%s: no series is called %s", expr, name)
			}
		}
	}
	native := 0
	for _, expr := range exprs {
		if v, err := s.query(expr); err == nil && strings.Contains(expr, "histogram_quantile") && len(v.Result) == 1 {
			native++
		}
	}
	if native < 3 { // the rule's quantile is below its threshold
		t.Errorf("only %d of the quantiles on the dashboard have a result", native)
	}
	v, err := s.query(`histogram_quantile(0.5, rate(triton_container_syscall_duration_seconds{name="web"}[1m]))`)
	if err != nil || len(v.Result) != 1 {
		t.Fatalf("quantile of a native histogram: %v, %d series", err, len(v.Result))
	}
	var median float64
	if _, err := fmt.Sscan(fmt.Sprint(v.Result[0].Value[1]), &median); err != nil || median < 0.0009 || median > 0.0012 {
		t.Errorf("median of durations between 0.98 and 1.16 ms is %v s (%v)", v.Result[0].Value[1], err)
	}
}

// classicNames lists the names that a scrape as text gives, which has buckets.
func classicNames(t *testing.T, target string) []string {
	t.Helper()
	r, err := http.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(b.String()) {
		if name, _, ok := strings.Cut(line, "{"); ok && strings.HasSuffix(name, "_bucket") {
			names = append(names, name)
		}
	}
	return names
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}
