package dockerapi

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// TestCommitBodyIsAConfig: docker-py sends conf, dockerode its options, the docker client nothing.
func TestCommitBodyIsAConfig(t *testing.T) {
	s := startServer(t)
	ref := s.furnish(t, "acme")[reachContainer][0]
	for body, want := range map[string]*triton.ImageConfig{
		"":     nil,
		"null": nil,
		`{"container":"x","repo":"y","pause":true,"Hostname":"h","Tty":true}`: {},
		`{"Cmd":["a"],"Entrypoint":["e"],"Env":["A=1"],"WorkingDir":"/w/","User":"u","ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},` +
			`"Labels":{"l":"1"},"StopSignal":"SIGINT","Shell":["s"],"OnBuild":["RUN x"],"Healthcheck":{"Test":["NONE"],"Interval":1000000000}}`: {
			Cmd: []string{"a"}, Entrypoint: []string{"e"}, Env: []string{"A=1"}, WorkingDir: "/w", User: "u", ExposedPorts: []string{"80/tcp"},
			Volumes: []string{"/v"}, Labels: map[string]string{"l": "1"}, StopSignal: "SIGINT", Shell: []string{"s"}, OnBuild: []string{"RUN x"},
			Healthcheck: &triton.Healthcheck{Test: []string{"NONE"}, Interval: time.Second},
		},
	} {
		r := s.do(t, "POST", "/commit?container="+ref+"&changes=USER+x", body, "X-Tenant", "acme")
		if r.status != 201 {
			t.Errorf("%s: got %d %s", body, r.status, r.body)
			continue
		}
		if diff := cmp.Diff(triton.CommitRequest{Config: want, Changes: []string{"USER x"}, Pause: true}, s.b.committed); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	for body, want := range map[string]string{
		`{"Bogus":1}`:          "Bogus: this version of triton does not know the field",
		`{"StopSignal":"X"}`:   "invalid signal: X",
		`{"WorkingDir":"rel"}`: "the working directory 'rel' is invalid, it needs to be an absolute path",
	} {
		s.do(t, "POST", "/commit?container="+ref, body, "X-Tenant", "acme").want(t, 400, want)
	}
}
