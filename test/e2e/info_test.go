package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// What docker info warns of is true of the machine and of how the daemon was started, and nothing else is warned of.
func TestInfoWarnsOfWhatIsSo(t *testing.T) {
	t.Parallel()
	tritonOnly(t)
	port, err := engine.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	u := own(t, "-H", "tcp://"+address, "--insecure-tcp", "--probes", "counters", "--insecure-registry", "reg.example:5000", "--insecure-registry", "10.0.0.0/8")
	var unexpected []string
	for line := range strings.Lines(u.ok(t, "info", "--format", `{{range .Warnings}}{{println .}}{{end}}`)) {
		switch line = strings.TrimSpace(line); {
		case line == "", strings.Contains(line, address), strings.Contains(line, "sys_enter: left out by level counters"), strings.Contains(line, "sys_exit: left out by level counters"):
		default:
			unexpected = append(unexpected, line)
		}
	}
	if len(unexpected) > 0 {
		t.Errorf("unexpected: %q", unexpected)
	}
	equal(t, "limits", u.ok(t, "info", "--format", "{{.MemoryLimit}} {{.CPUSet}} {{.PidsLimit}} {{.IPv4Forwarding}}"), "true true true true")
	matches(t, "registries", u.ok(t, "info", "--format", "{{json .RegistryConfig}}"), `(?s)127\.0\.0\.0/8.*10\.0\.0\.0/8.*reg\.example:5000|reg\.example:5000.*127\.0\.0\.0/8.*10\.0\.0\.0/8`)

	// A first start has nothing else to complain of: no library's noise.
	for line := range strings.Lines(u.tritond.Log()) {
		if (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=warning")) &&
			!strings.Contains(line, "--insecure-tcp") {
			t.Errorf("logged at a first start: %s", line)
		}
	}

	// What is left out is said where its numbers would be, and has no series.
	name := u.detached(t, images.Busybox, "sleep", "1000")
	res := u.client(t, nil, "-H", u.tritond.Host, "syscalls", name)
	if !strings.Contains(res.Stdout, "not measured: sys_enter: left out by level counters") {
		t.Errorf("triton syscalls: %s%s", res.Stdout, res.Stderr)
	}
	var metrics string
	eventually(t, commandTime, "the container is in /metrics", func() bool {
		_, metrics = get(t, "http://"+u.tritond.HTTP+"/metrics", "")
		return strings.Contains(metrics, `name="`+name+`"`)
	})
	for series, want := range map[string]bool{
		"triton_container_syscalls_total{": false, "triton_container_runqueue_latency_seconds_count{": true,
		"container_cpu_usage_seconds_total{": true, `triton_program_missing{program="sys_enter"} 1`: true,
		`triton_http_requests_total{api="docker",code="201",method="post"} 1`: true, `triton_page_dropped_total 0`: true,
	} {
		if strings.Contains(metrics, series) != want {
			t.Errorf("%s is served: %t, want %t", series, !want, want)
		}
	}
}
