package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// client runs the triton client with an environment of its own.
func (u *under) client(t *testing.T, env []string, args ...string) engine.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(u.tritond.Bin, "triton"), args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return engine.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// tenant makes a tenant with a certificate, and returns the docker client that has it.
func (u *under) tenant(t *testing.T, address, name string) *under {
	t.Helper()
	certs := filepath.Join(t.TempDir(), name)
	if res := u.client(t, nil, "-H", u.tritond.Host, "tenant", "add", name, "--out", certs); res.Code != 0 {
		t.Fatalf("triton tenant add %s: %s", name, res.Stderr)
	}
	return &under{cli: engine.CLI{Host: "tcp://" + address, ConfigDir: t.TempDir(), CertDir: certs}, tritond: u.tritond}
}

// dockerEnv is how a client finds the daemon and its certificate.
func (u *under) dockerEnv() []string {
	return []string{"DOCKER_HOST=" + u.cli.Host, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + u.cli.CertDir}
}

// tlsAPI is HTTP with a tenant's certificate, on at most so many connections.
func (u *under) tlsAPI(t *testing.T, conns int) *engine.API {
	t.Helper()
	api, err := engine.NewTLSAPI(u.cli.Host, u.cli.CertDir, conns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return api
}

// withTenants starts a daemon with two tenants beside its operator.
func withTenants(t *testing.T, flags ...string) (operator, acme, globex *under, address string) {
	t.Helper()
	t.Parallel()
	port, err := engine.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	operator = own(t, append(flags, "-H", "tcp://"+address)...)
	acme, globex = operator.tenant(t, address, "acme"), operator.tenant(t, address, "globex")
	for _, u := range []*under{acme, globex} {
		for _, archive := range all.images.Archives() {
			u.ok(t, "load", "-q", "-i", archive)
		}
	}
	return operator, acme, globex, address
}

// Three docker clients of one daemon, each with what it may have: their own, under names of their own.
func TestTenantsSeeTheirOwn(t *testing.T) {
	operator, acme, globex, address := withTenants(t)
	run := []string{"run", "-d", "--name", "web", images.Busybox, "sleep", "1000"}
	ids := map[*under]string{}
	for _, u := range []*under{operator, acme, globex} {
		ids[u] = u.ok(t, run...)
	}
	acme.ok(t, "network", "create", "backend")
	for u, id := range ids {
		equal(t, "ps", u.ok(t, "ps", "-aq", "--no-trunc"), id)
		equal(t, "inspect", u.inspect(t, "web", "{{.Id}}"), id)
		for other, foreign := range ids {
			if other == u {
				continue
			}
			for _, args := range [][]string{{"inspect", foreign}, {"logs", foreign}, {"exec", foreign, "true"}, {"stop", foreign[:12]}, {"rm", foreign}, {"stats", "--no-stream", foreign}} {
				u.fails(t, anyFailure, "(?i)no such", args...)
			}
		}
	}
	globex.fails(t, anyFailure, "(?i)not found", "network", "inspect", "backend")
	seen := globex.past(t, 2, "--filter", "event=start", "--filter", "event=create", "--format", "{{.ID}}")
	for line := range strings.Lines(seen) {
		equal(t, "events are of", strings.TrimSpace(line), ids[globex])
	}
	// What would let a tenant out of its containers is the operator's.
	for _, args := range [][]string{{"--privileged"}, {"-v", "/:/host"}, {"--network", "host"}, {"--pid", "host"}} {
		acme.fails(t, 125, "(?i)operator", append(append([]string{"run", "--rm"}, args...), images.True)...)
	}
	operator.ok(t, "--context", "default", "inspect", "web")
	res := operator.client(t, nil, "-H", operator.tritond.Host, "-t", "acme", "syscalls", "web")
	if res.Code != 0 {
		t.Errorf("the operator acts for acme: %s", res.Stderr)
	}
	for u, id := range ids {
		res := acme.client(t, acme.dockerEnv(), "explain", id)
		if u == acme {
			matches(t, "its own placement", res.Stdout, "placed on")
		} else if res.Code == 0 || !strings.Contains(res.Stderr, "No such container") {
			t.Errorf("acme asks for the placement of another's container: %q, %q", res.Stdout, res.Stderr)
		}
	}

	// No certificate, another authority's, one revoked: no way in.
	plain := &under{cli: engine.CLI{Host: "tcp://" + address, ConfigDir: t.TempDir()}}
	plain.fails(t, 1, "(?i)http.*https|TLS", "ps")
	equal(t, "tenant ls", strings.Join(firstFields(operator.client(t, nil, "-H", operator.tritond.Host, "tenant", "ls").Stdout), " "), "TENANT default acme globex")
	id := strings.Fields(strings.SplitN(operator.client(t, nil, "-H", operator.tritond.Host, "tenant", "ls", "globex").Stdout, "\n", 2)[1])[0]
	if res := operator.client(t, nil, "-H", operator.tritond.Host, "tenant", "revoke", id); res.Code != 0 {
		t.Fatalf("revoke %s: %s", id, res.Stderr)
	}
	globex.fails(t, 1, "(?i)certificate|revoked|unauthorized|credential", "ps")
	if res := operator.client(t, nil, "-H", operator.tritond.Host, "tenant", "rm", "acme"); res.Code == 0 || !strings.Contains(res.Stderr, "1 containers") {
		t.Errorf("a tenant with containers was removed, or why not is not said: %s", res.Stderr)
	}
}

func firstFields(s string) (out []string) {
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) > 0 {
			out = append(out, f[0])
		}
	}
	return out
}

// What is served beside the Docker API asks for the login too, and shows a token's tenant alone.
func TestTokensOpenTheirTenantsPathsOnly(t *testing.T) {
	operator, acme, _, address := withTenants(t)
	id := acme.ok(t, "run", "-d", images.Busybox, "sleep", "1000")
	tokens := map[string]string{}
	for _, name := range []string{"acme", "globex"} {
		res := operator.client(t, nil, "-H", operator.tritond.Host, "tenant", "token", name)
		if res.Code != 0 {
			t.Fatalf("token of %s: %s", name, res.Stderr)
		}
		tokens[name] = strings.TrimSpace(res.Stdout)
	}
	base := "http://" + operator.tritond.HTTP
	observed := "/triton/v1/containers/" + id + "/observed"
	for _, c := range []struct {
		path, token string
		want        int
	}{
		{observed, "", 401}, {observed, "trt_nonsense", 401}, {observed, tokens["globex"], 404}, {observed, tokens["acme"], 200},
		{"/triton/v1/probes", tokens["acme"], 403}, {"/triton/v1/tenants", tokens["acme"], 403}, {"/triton/v1/version", tokens["acme"], 200},
		{"/triton/v1/ws", "", 401}, {"/triton/v1/terminal/" + id, tokens["globex"], 404}, {"/healthz", "", 200},
	} {
		status, body := get(t, base+c.path, c.token)
		if status != c.want {
			t.Errorf("%s with %q: %d, want %d: %s", c.path, c.token, status, c.want, body)
		}
		if status >= 400 && (strings.Count(strings.TrimSpace(body), "\n") > 0 || strings.TrimSpace(body) == "") {
			t.Errorf("%s: not one clear line: %q", c.path, body)
		}
	}
	// The same by certificate: the own paths are on the Docker API's address as well.
	env := func(u *under) []string {
		return []string{"DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + u.cli.CertDir, "DOCKER_HOST=tcp://" + address}
	}
	if res := operator.client(t, env(acme), "syscalls", id); res.Code != 0 || !strings.Contains(res.Stdout, "execve") {
		t.Errorf("acme's own: %s%s", res.Stdout, res.Stderr)
	}
	if res := operator.client(t, env(acme), "probes"); res.Code == 0 || !strings.Contains(res.Stderr, "operators only") {
		t.Errorf("probes: %s%s", res.Stdout, res.Stderr)
	}
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
