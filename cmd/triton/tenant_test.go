package main

import (
	"strings"
	"testing"
)

func TestTenantMistakesAreListedAtOnce(t *testing.T) {
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", []string{"no verb"}},
		{"add", []string{"name is missing"}},
		{"add --role king --expires 0s", []string{"name is missing", `--role "king"`, "--expires 0s"}},
		{"add alice bob", []string{`unexpected argument "bob"`}},
		{"add alice --expires soon", []string{"expires"}},
		{"token alice --out x", []string{"-out"}},
		{"rm", []string{"wrong number of arguments"}},
		{"burn alice", []string{"unknown verb"}},
	} {
		err := tenantCommand(t.Context(), nil, strings.Fields(c.args), nil)
		if err == nil {
			t.Errorf("%q was taken", c.args)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: got %v, want %s in it", c.args, err, w)
			}
		}
	}
	in, err := parseIssue("add", []string{"--role", "tenant", "alice"})
	if err != nil || in.tenant != "alice" || in.out != "triton-alice" || in.who != "alice" {
		t.Errorf("got %+v %v", in, err)
	}
}

func TestHostsAreCheckedClearly(t *testing.T) {
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	t.Setenv("DOCKER_CERT_PATH", t.TempDir())
	for host, want := range map[string]string{"x": "must be unix:///PATH", "tcp://h": "must be unix:///PATH", "tcp://h:1": "ca.pem"} {
		if _, err := newClient(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", host, err)
		}
	}
	t.Setenv("DOCKER_CERT_PATH", "")
	if _, err := newClient("tcp://h:1"); err == nil || !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
		t.Errorf("got %v", err)
	}
}
