package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

// reach says what an endpoint can show or change, and so how TestTenantsDoNotMeet tries it.
type reach string

const (
	reachNothing   reach = "nothing"   // of any tenant: the same answer for all
	reachList      reach = "list"      // the caller's own objects: the answer must not name another's
	reachCreate    reach = "create"    // makes an object of the caller's; bodies that name others are in TestBodiesNameOwnObjectsOnly
	reachContainer reach = "container" // the one that the path names, as do the next ones
	reachExec      reach = "exec"
	reachImage     reach = "image"
	reachNetwork   reach = "network"
	reachVolume    reach = "volume"
	// reachImageName is reachImage where an id is no way to name one.
	reachImageName reach = "image by name"
	reachUnbuilt   reach = "unbuilt" // answers 501 or 503 to everybody
)

// routeReach classifies the endpoints that have a handler. Bodies are those that a handler asks for before it looks for
// the object.
var routeReach = map[string]struct {
	reach reach
	query string
	body  string
}{
	"GET /_ping":                       {reach: reachNothing},
	"HEAD /_ping":                      {reach: reachNothing},
	"GET /version":                     {reach: reachNothing},
	"POST /auth":                       {reach: reachNothing}, // asks a registry with what the body says; stores nothing
	"GET /distribution/{name...}/json": {reach: reachNothing}, // of a registry, not of an image here
	"GET /plugins":                     {reach: reachNothing},
	"POST /build/prune":                {reach: reachNothing}, // there is no build cache
	"OPTIONS /{path...}":               {reach: reachNothing},
	"GET /info":                        {reach: reachList},
	"GET /events":                      {reach: reachList, query: "since=1&until=0s"},
	"GET /containers/json":             {reach: reachList, query: "all=1"},
	"GET /images/json":                 {reach: reachList, query: "all=1"},
	"GET /networks":                    {reach: reachList},
	"POST /networks/prune":             {reach: reachList},
	"HEAD /containers/{id}/archive":    {reach: reachContainer, query: "path=/"},
	"GET /containers/{id}/archive":     {reach: reachContainer, query: "path=/"},
	"PUT /containers/{id}/archive":     {reach: reachContainer, query: "path=/"},
	"GET /containers/{id}/export":      {reach: reachContainer},
	"GET /containers/{id}/changes":     {reach: reachContainer},
	"POST /commit":                     {reach: reachCreate}, // the container is in the query: see TestBodiesNameOwnObjectsOnly
	"GET /system/df":                   {reach: reachList},
	"POST /containers/prune":           {reach: reachList},
	"GET /volumes":                     {reach: reachList},
	"POST /volumes/prune":              {reach: reachList, query: "filters=%7B%22all%22:%5B%22true%22%5D%7D"},
	"POST /volumes/create":             {reach: reachCreate},
	"GET /volumes/{name}":              {reach: reachVolume},
	"DELETE /volumes/{name}":           {reach: reachVolume},
	"POST /images/prune":               {reach: reachList, query: "filters=%7B%22dangling%22:%5B%22false%22%5D%7D"},
	"POST /containers/create":          {reach: reachCreate},
	"POST /images/load":                {reach: reachCreate},
	"GET /images/get":                  {reach: reachCreate}, // names are in the query: see TestBodiesNameOwnObjectsOnly
	"POST /images/create":              {reach: reachCreate},
	"POST /networks/create":            {reach: reachCreate},
	"GET /containers/{id}/json":        {reach: reachContainer},
	"GET /containers/{id}/logs":        {reach: reachContainer, query: "stdout=1&follow=1"},
	"GET /containers/{id}/top":         {reach: reachContainer},
	"GET /containers/{id}/stats":       {reach: reachContainer},
	"POST /containers/{id}/rename":     {reach: reachContainer, query: "name=taken-over"},
	"POST /containers/{id}/update":     {reach: reachContainer, body: `{"CpuShares":2}`},
	"POST /containers/{id}/pause":      {reach: reachContainer},
	"POST /containers/{id}/unpause":    {reach: reachContainer},
	"POST /containers/{id}/resize":     {reach: reachContainer, query: "h=1&w=1"},
	"POST /containers/{id}/start":      {reach: reachContainer},
	"POST /containers/{id}/stop":       {reach: reachContainer},
	"POST /containers/{id}/restart":    {reach: reachContainer},
	"POST /containers/{id}/kill":       {reach: reachContainer},
	"POST /containers/{id}/attach":     {reach: reachContainer, query: "stream=1&stdout=1"},
	"GET /containers/{id}/attach/ws":   {reach: reachContainer, query: "stream=1&stdout=1"},
	"POST /containers/{id}/wait":       {reach: reachContainer},
	"DELETE /containers/{id...}":       {reach: reachContainer},
	"POST /containers/{id}/exec":       {reach: reachContainer, body: `{"Cmd":["true"]}`},
	"POST /exec/{id}/start":            {reach: reachExec, body: `{"Detach":true}`},
	"POST /exec/{id}/resize":           {reach: reachExec, query: "h=1&w=1"},
	"GET /exec/{id}/json":              {reach: reachExec},
	"GET /images/{name...}/json":       {reach: reachImage},
	"GET /images/{name...}/history":    {reach: reachImage},
	"GET /images/{name...}/get":        {reach: reachImage},
	"POST /images/{name...}/tag":       {reach: reachImage, query: "repo=other&tag=1"},
	"POST /images/{name...}/push":      {reach: reachImageName},
	"DELETE /images/{name...}":         {reach: reachImage},
	"GET /networks/{id}":               {reach: reachNetwork},
	"DELETE /networks/{id}":            {reach: reachNetwork},
	"POST /networks/{id}/connect":      {reach: reachNetwork, body: `{"Container":"own"}`},
	"POST /networks/{id}/disconnect":   {reach: reachNetwork, body: `{"Container":"own"}`},
}

// reachOf returns an endpoint's class; rows that are answered by their group alone are unbuilt without being listed.
func reachOf(t *testing.T, s *testServer, r route) (of reach, query, body string) {
	name := r.method + " " + r.path
	if row, ok := routeReach[name]; ok {
		return row.reach, row.query, row.body
	}
	path := strings.NewReplacer("{name...}", "a/b", "{id...}", "id", "{path...}", "x", "{", "", "}", "").Replace(r.path)
	got := s.do(t, r.method, path, "", "X-Tenant", "globex")
	if got.status == http.StatusNotImplemented || got.status == http.StatusServiceUnavailable {
		return reachUnbuilt, "", ""
	}
	t.Errorf("%s has a handler (it answers %d) and no class: add it to routeReach in isolation_test.go. Does its path name an object? "+
		"Then its class is the object's kind, with the query and body that it needs to get as far as looking for it. Does it list? "+
		"Then reachList. If it reads an object's name from its query or body, add a case to TestBodiesNameOwnObjectsOnly.", name, got.status)
	return reachUnbuilt, "", ""
}

// belongings are the objects of one tenant, and the ways to name them.
type belongings map[reach][]string

// furnish gives a tenant one object of each kind. Both tenants' have the same names.
func (s *testServer) furnish(t *testing.T, tenant string) belongings {
	t.Helper()
	img := busyboxImage()
	img.RepoTags = append(img.RepoTags, tenant+":private")
	img.ID = "sha256:" + strings.Repeat(fmt.Sprintf("%x", tenant[0]), 32)
	s.b.mu.Lock()
	s.b.images[triton.Tenant(tenant)] = []triton.Image{img}
	s.b.mu.Unlock()
	id := s.runningOf(t, tenant, tenant+"-web")
	exec := s.made(t, tenant, "/containers/"+id+"/exec", `{"Cmd":["true"]}`)
	network := s.made(t, tenant, "/networks/create", `{"Name":"`+tenant+`-net"}`)
	s.b.mu.Lock()
	s.b.vols = append(s.b.vols, triton.VolumeInfo{Key: triton.VolumeKey{Tenant: triton.Tenant(tenant), Name: tenant + "-data"}})
	s.b.mu.Unlock()
	return belongings{
		reachVolume:    {tenant + "-data"},
		reachContainer: {id, triton.ShortID(id), tenant + "-web", "/" + tenant + "-web"},
		reachExec:      {exec},
		reachImage:     {img.ID, strings.TrimPrefix(img.ID, "sha256:")[:12], tenant + ":private"},
		reachImageName: {tenant + ":private"},
		reachNetwork:   {network, triton.ShortID(network), tenant + "-net"},
	}
}

// made posts a body and returns the id of what was made.
func (s *testServer) made(t *testing.T, tenant, path, body string) string {
	t.Helper()
	r := s.do(t, "POST", path, body, "X-Tenant", tenant)
	var answer struct{ ID string }
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != http.StatusCreated {
		t.Fatalf("%s: POST %s: %d %s", tenant, path, r.status, r.body)
	}
	return answer.ID
}

// runningOf starts a container of a tenant that runs until it is stopped.
func (s *testServer) runningOf(t *testing.T, tenant, name string) string {
	t.Helper()
	id := s.made(t, tenant, "/containers/create?name="+name, `{"Image":"busybox","Cmd":["sleep","1000"]}`)
	s.do(t, "POST", "/containers/"+id+"/start", "", "X-Tenant", tenant).want(t, http.StatusNoContent, "")
	return id
}

// statusFor asks and returns the status as soon as the header is there: some answers never end.
func (s *testServer) statusFor(t *testing.T, tenant, method, path, body string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Tenant", tenant)
	req.Header.Set("Content-Type", "application/json")
	if strings.Contains(path, "/attach/ws") {
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
			req.Header.Set(name, value)
		}
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", tenant, method, path, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestTenantsDoNotMeet tries every endpoint of the route table as one tenant on the objects of another: 404 by id, prefix
// and name, and nothing of them in any list. That the owner is not answered 404 shows that the request was a real one.
func TestTenantsDoNotMeet(t *testing.T) {
	probe := startServer(t)
	tried := map[reach]int{}
	for _, r := range routeTable() {
		of, query, body := reachOf(t, probe, r)
		tried[of]++
		switch of {
		case reachNothing, reachCreate, reachUnbuilt:
			continue
		case reachList:
			listShowsOwnOnly(t, r, query)
		default:
			objectIsHidden(t, r, of, query, body)
		}
	}
	for _, of := range []reach{reachList, reachContainer, reachExec, reachImage, reachImageName, reachNetwork, reachVolume} {
		if tried[of] == 0 {
			t.Errorf("no endpoint of class %q was tried", of)
		}
	}
	for name := range routeReach {
		if !slices.ContainsFunc(routeTable(), func(r route) bool { return r.method+" "+r.path == name }) {
			t.Errorf("routeReach has %s, which is no endpoint any more: remove it", name)
		}
	}
}

func listShowsOwnOnly(t *testing.T, r route, query string) {
	s := startServer(t)
	theirs := s.furnish(t, "acme")
	s.furnish(t, "globex")
	// The pairs of name and id that only acme has.
	got := s.do(t, r.method, r.path+"?"+query, "", "X-Tenant", "globex")
	if got.status != http.StatusOK {
		t.Errorf("%s %s: got %d %s, want 200", r.method, r.path, got.status, got.body)
	}
	for of, names := range theirs {
		for _, name := range names {
			if strings.Contains(got.body, strings.TrimPrefix(name, "/")) {
				t.Errorf("%s %s shows a tenant the %s %s of another", r.method, r.path, of, name)
			}
		}
	}
}

func objectIsHidden(t *testing.T, r route, of reach, query, body string) {
	s := startServer(t)
	theirs := s.furnish(t, "acme")
	s.furnish(t, "globex")
	for _, tenant := range []string{"acme", "globex"} {
		s.made(t, tenant, "/containers/create?name=own", `{"Image":"busybox"}`)
	}
	at := func(name string) string {
		path := strings.NewReplacer("{id}", name, "{id...}", name, "{name...}", name, "{name}", name).Replace(r.path)
		return strings.ReplaceAll(path, "//", "/%2F") + "?" + query
	}
	for _, name := range theirs[of] {
		if got := s.statusFor(t, "globex", r.method, at(name), body); got != http.StatusNotFound {
			t.Errorf("%s %s: a tenant got %d for another's, want 404", r.method, at(name), got)
		}
	}
	if got := s.statusFor(t, "acme", r.method, at(theirs[of][0]), body); got == http.StatusNotFound || got == http.StatusBadRequest {
		t.Errorf("%s %s: its owner got %d: the request is not one that would find the object", r.method, at(theirs[of][0]), got)
	}
}

// TestBodiesNameOwnObjectsOnly: objects that a body names are looked up among the caller's too.
func TestBodiesNameOwnObjectsOnly(t *testing.T) {
	s := startServer(t)
	theirs := s.furnish(t, "acme")
	own := s.furnish(t, "globex")
	for _, ref := range theirs[reachContainer][:3] {
		for _, field := range []string{"NetworkMode", "PidMode", "IpcMode"} {
			body := `{"Image":"busybox","HostConfig":{"` + field + `":"container:` + ref + `"}}`
			s.do(t, "POST", "/containers/create", body, "X-Tenant", "globex").want(t, 400, "HostConfig."+field+": No such container: "+ref)
		}
		s.do(t, "POST", "/commit", "", "X-Tenant", "globex").want(t, 400, `invalid name or ID supplied: ""`)
		s.do(t, "POST", "/commit?container="+ref, "", "X-Tenant", "globex").want(t, 404, "No such container: "+ref)
		r := s.do(t, "POST", "/containers/create", `{"Image":"busybox","HostConfig":{"VolumesFrom":["`+ref+`"]}}`, "X-Tenant", "globex")
		r.want(t, 400, "HostConfig.VolumesFrom: No such container: "+ref)
		for _, verb := range []string{"connect", "disconnect"} {
			r := s.do(t, "POST", "/networks/"+own[reachNetwork][0]+"/"+verb, `{"Container":"`+ref+`"}`, "X-Tenant", "globex")
			r.want(t, 404, "No such container: "+ref)
		}
	}
	for _, ref := range theirs[reachImage] {
		if r := s.do(t, "GET", "/images/get?names="+own[reachImage][0]+"&names="+ref, "", "X-Tenant", "globex"); r.status != 404 {
			t.Errorf("an archive with another tenant's image %s: got %d %s, want 404", ref, r.status, r.body)
		}
		if r := s.do(t, "POST", "/containers/create", `{"Image":"`+ref+`"}`, "X-Tenant", "globex"); r.status != 404 {
			t.Errorf("a container of another tenant's image %s: got %d %s, want 404", ref, r.status, r.body)
		}
	}
}

// TestTwoTenantsUseOneName: each finds its own container by the name both chose.
func TestTwoTenantsUseOneName(t *testing.T) {
	s := startServer(t)
	ids := map[string]string{}
	for _, tenant := range []string{"acme", "globex"} {
		s.furnish(t, tenant)
		ids[tenant] = s.made(t, tenant, "/containers/create?name=db", `{"Image":"busybox"}`)
	}
	for tenant, id := range ids {
		r := s.do(t, "GET", "/containers/db/json", "", "X-Tenant", tenant)
		if r.status != 200 || !strings.Contains(r.body, id) {
			t.Errorf("%s: got %d %.80s, want its own %s", tenant, r.status, r.body, id)
		}
	}
	s.do(t, "DELETE", "/containers/db", "", "X-Tenant", "acme").want(t, 204, "")
	if r := s.do(t, "GET", "/containers/db/json", "", "X-Tenant", "globex"); r.status != 200 {
		t.Errorf("the other tenant's container went too: %d %s", r.status, r.body)
	}
}

// messageIn is the text of a refusal.
func messageIn(r reply) string {
	var e struct{ Message string }
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		return ""
	}
	return e.Message
}
