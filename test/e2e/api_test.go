package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// do sends a request as it is.
func (u *under) do(t *testing.T, method, path, contentType, body string) engine.Reply {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	reply, err := u.api.Do(t.Context(), method, path, contentType, r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// message returns the text of an error answer, which must be docker's JSON.
func message(t *testing.T, r engine.Reply) string {
	t.Helper()
	var m struct{ Message string }
	if err := json.Unmarshal(r.Body, &m); err != nil || m.Message == "" {
		t.Errorf("%d %q is not docker's form of an error: %v", r.Status, r.Body, err)
	}
	return m.Message
}

func TestPingSaysWhatClientsNegotiateWith(t *testing.T) {
	u := shared(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/_ping", "/v1.41/_ping"} {
			r := u.do(t, method, path, "", "")
			if r.Status != http.StatusOK {
				t.Errorf("%s %s: status %d", method, path, r.Status)
			}
			matches(t, "Api-Version", r.Header.Get("Api-Version"), `^1\.\d\d$`)
			equal(t, "Ostype", r.Header.Get("Ostype"), "linux")
			matches(t, "Cache-Control", r.Header.Get("Cache-Control"), "no-cache")
		}
	}
	equal(t, "body", string(u.do(t, http.MethodGet, "/_ping", "", "").Body), "OK")
}

func TestVersionAndInfoNameTheMachine(t *testing.T) {
	u := shared(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	matches(t, "version", u.ok(t, "version", "--format", "{{.Server.Version}} {{.Server.Os}} {{.Server.APIVersion}}"), `^\S+ linux 1\.\d\d$`)
	equal(t, "info", u.ok(t, "info", "--format", "{{.Name}} {{.OSType}}"), host+" linux")
	matches(t, "info", u.ok(t, "info", "--format", "{{.NCPU}} {{.MemTotal}} {{.ID}}"), `^[1-9]\d* [1-9]\d{8,} \S+$`)
}

func TestUnknownPathsAndMethodsAre404(t *testing.T) {
	u := shared(t)
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1.41/nosuch"}, {"PUT", "/v1.41/containers/json"}, {"DELETE", "/v1.41/info"}, {"GET", "/v1.41/containers/nosuch/json"},
	} {
		r := u.do(t, c.method, c.path, "", "")
		if r.Status != http.StatusNotFound {
			t.Errorf("%s %s: status %d, want 404", c.method, c.path, r.Status)
		}
		matches(t, c.path, message(t, r), "page not found|No such container: nosuch")
	}
}

func TestVersionsOutOfRangeAreRefused(t *testing.T) {
	u := shared(t)
	r := u.do(t, "GET", "/v1.99/info", "", "")
	if r.Status != http.StatusBadRequest {
		t.Errorf("v1.99: status %d, want 400", r.Status)
	}
	matches(t, "v1.99", message(t, r), "(?i)client version 1.99 is too new")
	if u.tritond == nil {
		return // engine 20.10 serves even v1.12
	}
	r = u.do(t, "GET", "/v1.20/info", "", "")
	if r.Status != http.StatusBadRequest {
		t.Errorf("v1.20: status %d, want 400", r.Status)
	}
	matches(t, "v1.20", string(r.Body), "(?i)client version 1.20 is too old")
}

func TestBrokenBodiesAreRefused(t *testing.T) {
	u := shared(t)
	good := `{"Image":"` + images.True + `"}`
	for _, c := range []struct {
		behaviour, contentType, body, pattern string
		strict                                bool // engine 20.10 is laxer, or answers 500
	}{
		{"no body", "application/json", "", "(?i)empty|EOF|config", true},
		{"wrong content type", "text/plain", good, "(?i)content-type", true},
		{"no JSON", "application/json", "{not json", "(?i)invalid", true},
		{"cut off", "application/json", good[:len(good)-3], "(?i)EOF|invalid|unexpected", true},
		{"trailing data", "application/json", good + good, "(?i)after|trailing|unexpected|invalid", true},
		{"wrong type", "application/json", `{"Image":5}`, "(?i)json|invalid|unmarshal", true},
		{"a list", "application/json", `[]`, "(?i)json|invalid|unmarshal|list", true},
		{"nothing asked for", "application/json", `{}`, "(?i)empty|no command|image", false},
		{"unknown image", "application/json", `{"Image":"nosuch:1"}`, "(?i)no such image", false},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			if c.strict && u.tritond == nil {
				t.Skip("not portable to engine 20.10")
			}
			name := "broken" + randomHex()
			r := u.do(t, "POST", "/v1.41/containers/create?name="+name, c.contentType, c.body)
			if r.Status < 400 || r.Status >= 500 {
				t.Errorf("got status %d, want 4xx", r.Status)
			}
			matches(t, "message", message(t, r), c.pattern)
			u.fails(t, 1, "(?i)no such", "inspect", name)
		})
	}
}

func TestFiltersAreChecked(t *testing.T) {
	u := shared(t)
	for _, c := range []struct {
		filters string
		status  int
	}{
		{`{"status":["running"]}`, 200},
		{`{"status":{"running":true}}`, 200},
		{`{"bogus":["x"]}`, 400},
		{`{"status":["bogus"]}`, 400},
		{`{not json`, 400},
	} {
		r := u.do(t, "GET", "/v1.41/containers/json?filters="+strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", " ", "%20").Replace(c.filters), "", "")
		if r.Status != c.status && !(u.tritond == nil && r.Status == 500) { // 20.10 answers 500 for bad JSON
			t.Errorf("%s: status %d, want %d: %s", c.filters, r.Status, c.status, r.Body)
		}
	}
}

func TestBrokenArchivesLeaveNothing(t *testing.T) {
	t.Parallel()
	u := own(t)
	whole, err := os.ReadFile(all.images.Programs)
	if err != nil {
		t.Fatal(err)
	}
	u.ok(t, "rmi", images.Programs)
	before := u.ok(t, "images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}")
	for behaviour, archive := range map[string][]byte{
		"garbage":        bytes.Repeat([]byte("garbage!"), 4096),
		"cut in a layer": whole[:len(whole)/3],
		"cut at the end": whole[:len(whole)-4096],
		"no manifest":    programTar(t),
		"flipped bytes":  bytes.Replace(whole, []byte("root:x:0:0"), []byte("toor:x:0:0"), 1),
		"no layer":       bytes.Replace(whole, []byte(`"Layers":["`), []byte(`"Layers":["x`), 1),
	} {
		res := u.dockerIn(t, bytes.NewReader(archive), "load")
		if res.Code == 0 || strings.TrimSpace(res.Stderr) == "" {
			t.Errorf("%s: load succeeded: %s", behaviour, res.Stdout)
		}
		if after := u.ok(t, "images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}"); after != before {
			t.Errorf("%s: images changed (-before +after):\n%s", behaviour, cmp.Diff(before, after))
		}
	}
	ingests, err := filepath.Glob(filepath.Join(u.tritond.DataRoot, "containerd", "*content*", "ingest", "*"))
	if err != nil || len(ingests) > 0 {
		t.Errorf("unfinished downloads are left: %v %v", ingests, err)
	}
	u.ok(t, "load", "-i", all.images.Programs)
	equal(t, "a good archive still loads", u.ok(t, "run", "--rm", images.Programs, "echo", "fine"), "fine")
}

// TestNoHostConfigFieldIsIgnored gives every field of HostConfig a value: it is shown by inspect, or refused by name.
func TestNoHostConfigFieldIsIgnored(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	for field, value := range hostConfigValues() {
		t.Run(field, func(t *testing.T) {
			name := u.name(t)
			body := fmt.Sprintf(`{"Image":%q,"HostConfig":{%q:%s}}`, images.True, field, value)
			r := u.do(t, "POST", "/v1.51/containers/create?name="+name, "application/json", body)
			if r.Status >= 400 {
				if r.Status >= 500 && r.Status != http.StatusNotImplemented {
					t.Errorf("status %d, want 400 or 501", r.Status)
				}
				named := field
				if field == "DeviceRequests" { // in docker's words
					named = "could not select device driver"
				}
				if !strings.Contains(strings.ToLower(message(t, r)), strings.ToLower(named)) {
					t.Errorf("refused without its name: %s", r.Body)
				}
				return
			}
			var got struct{ HostConfig map[string]any }
			if err := u.api.JSON(t.Context(), "GET", "/v1.51/containers/"+name+"/json", nil, &got); err != nil {
				t.Fatal(err)
			}
			var want any
			if err := json.Unmarshal([]byte(value), &want); err != nil {
				t.Fatal(err)
			}
			shown := got.HostConfig[field]
			if diff := cmp.Diff(want, shown); diff != "" {
				t.Errorf("accepted, but inspect shows another value (-sent +shown):\n%s", diff)
			}
		})
	}
	r := u.do(t, "POST", "/v1.51/containers/create", "application/json", `{"Image":"`+images.True+`","HostConfig":{"NoSuchField":1}}`)
	if r.Status != http.StatusBadRequest {
		t.Errorf("unknown field: status %d, want 400", r.Status)
	}
	matches(t, "unknown field", message(t, r), "NoSuchField")
}
