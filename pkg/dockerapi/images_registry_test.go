package dockerapi

import (
	"encoding/base64"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestPullStreamsProgress(t *testing.T) {
	s := startServer(t)
	s.b.lines = []triton.ImageProgress{
		{ID: "v1", Status: "Pulling from team/app"},
		{ID: "0123456789ab", Status: "Downloading", Current: 5, Total: 10},
		{Status: "Status: Downloaded newer image for team/app:v1"},
	}
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"al","password":"p?>","serveraddress":"r:5"}`))
	r := s.do(t, "POST", "/images/create?fromImage=r:5/team/app&tag=v1&platform=linux/amd64", "", "X-Registry-Auth", auth)
	r.want(t, 200, "")
	want := `{"status":"Pulling from team/app","progressDetail":{},"id":"v1"}
{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}
{"status":"Status: Downloaded newer image for team/app:v1"}
`
	if d := cmp.Diff(want, r.body); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	asked := []triton.PullRequest{{
		Ref: "r:5/team/app:v1", Platform: "linux/amd64", Auth: triton.RegistryAuth{Username: "al", Password: "p?>", ServerAddress: "r:5"},
	}}
	if d := cmp.Diff(asked, s.b.pulls); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
}

func TestPullErrorIsAStatusUntilTheStreamBegan(t *testing.T) {
	s := startServer(t)
	s.b.err = errdefs.ErrNotFound.WithMessage("manifest for x:1 not found")
	s.do(t, "POST", "/images/create?fromImage=x&tag=1", "").want(t, 404, "manifest for x:1 not found")
	s.b.lines = []triton.ImageProgress{{ID: "1", Status: "Pulling from library/x"}}
	r := s.do(t, "POST", "/images/create?fromImage=x&tag=1", "")
	r.want(t, 200, "")
	if !strings.HasSuffix(r.body, `{"errorDetail":{"message":"manifest for x:1 not found"},"error":"manifest for x:1 not found"}`+"\n") {
		t.Errorf("got %s, want an error as the last line", r.body)
	}
	s.do(t, "POST", "/images/create?fromImage=x&tag=1", "", "X-Registry-Auth", "!").want(t, 400, "")
	s.do(t, "POST", "/images/create?fromImage=UPPER&tag=1", "").want(t, 400, "")
}

func TestPushSaysWhatTheRegistryHas(t *testing.T) {
	s := startServer(t)
	mine := busyboxImage()
	mine.RepoTags = append(mine.RepoTags, "r:5/app:v1")
	s.b.images[triton.DefaultTenant] = []triton.Image{mine}
	s.b.lines = []triton.ImageProgress{{Status: "v1: digest: sha256:ab size: 3", Pushed: &triton.PushedImage{Tag: "v1", Digest: "sha256:ab", Size: 3}}}
	r := s.do(t, "POST", "/images/r:5/app/push?tag=v1&platform="+`%7B%22os%22:%22linux%22,%22architecture%22:%22arm64%22%7D`, "")
	r.want(t, 200, "")
	want := `{"status":"v1: digest: sha256:ab size: 3"}
{"progressDetail":{},"aux":{"Tag":"v1","Digest":"sha256:ab","Size":3}}
`
	if d := cmp.Diff(want, r.body); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]triton.PushRequest{{Ref: "r:5/app:v1", Platform: "linux/arm64"}}, s.b.push); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
}

func TestLoginAnswersWithTheToken(t *testing.T) {
	s := startServer(t)
	s.b.token = "tok"
	r := s.do(t, "POST", "/auth", `{"username":"al","password":"pw","serveraddress":"r:5"}`)
	r.want(t, 200, "")
	if want := `{"IdentityToken":"tok","Status":"Login Succeeded"}` + "\n"; r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
	s.b.err = errdefs.ErrUnauthenticated.WithMessage("login attempt failed")
	s.do(t, "POST", "/auth", `{"auth":"YWw6cHc="}`).want(t, 401, "login attempt failed")
	want := []triton.RegistryAuth{{Username: "al", Password: "pw", ServerAddress: "r:5"}, {Username: "al", Password: "pw"}}
	if d := cmp.Diff(want, s.b.auth); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
}

func TestSaveCutsTheConnectionWhenItFails(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "GET", "/images/get?names=busybox&names=busybox:latest", "")
	r.want(t, 200, "")
	if want := "archive of busybox+busybox:latest"; r.body != want {
		t.Errorf("got %q, want %q", r.body, want)
	}
	s.do(t, "GET", "/images/nosuch/get", "").want(t, 404, "No such image: nosuch:latest")
	s.do(t, "GET", "/images/get", "").want(t, 400, "no image names: names is empty")
	s.b.saveErr = errdefs.ErrDataLoss
	resp, err := s.client.Get("http://d/images/busybox/get")
	if err == nil {
		var b strings.Builder
		_, err = io.Copy(&b, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("an archive that was cut short ended like a whole one")
	}
}

func TestPruneTakesWhatFiltersLeave(t *testing.T) {
	s := startServer(t)
	body := s.do(t, "POST", "/images/prune", "")
	body.want(t, 200, "")
	if want := `{"ImagesDeleted":null,"SpaceReclaimed":0}` + "\n"; body.body != want {
		t.Errorf("dangling: got %s, want %s", body.body, want)
	}
	for filter, taken := range map[string]bool{
		`{"dangling":["false"]}`:                              true,
		`{"dangling":["false"],"label":["maker=test"]}`:       true,
		`{"dangling":["false"],"label!":["maker=test"]}`:      false,
		`{"dangling":["false"],"label":["maker=else"]}`:       false,
		`{"dangling":{"false":true},"until":["2000-01-01"]}`:  false,
		`{"dangling":{"false":true},"label!":{"other":true}}`: true,
	} {
		r := s.do(t, "POST", "/images/prune?filters="+url.QueryEscape(filter), "")
		if got := strings.Contains(r.body, `"Deleted":"sha256:`); r.status != 200 || got != taken {
			t.Errorf("%s: got %d %s, want taken %v", filter, r.status, r.body, taken)
		}
	}
	s.do(t, "POST", "/images/prune?filters="+url.QueryEscape(`{"color":["red"]}`), "").want(t, 400, "invalid filter 'color'")
}

func TestHistoryNamesTheImageAtItsLastStep(t *testing.T) {
	s := startServer(t)
	r := s.do(t, "GET", "/images/busybox/history", "")
	r.want(t, 200, "")
	if !strings.Contains(r.body, `"CreatedBy":"CMD"`) || !strings.Contains(r.body, `"Id":"<missing>"`) {
		t.Errorf("got %s", r.body)
	}
	s.do(t, "GET", "/images/search?term=x", "").want(t, 501, "")
}

// FuzzRegistryAuth decodes headers. Whatever comes out was within the bound, and none makes it panic.
func FuzzRegistryAuth(f *testing.F) {
	for _, seed := range []string{"", "e30=", "e30", "bnVsbA", `eyJhdXRoIjoiWVd3NmNIYz0ifQ==`, "a+/b", "====", strings.Repeat("A", maxAuthHeader+1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		auth, err := decodeRegistryAuth(header)
		if err != nil && auth != (triton.RegistryAuth{}) {
			t.Errorf("an error came with credentials: %#v", auth)
		}
		if err == nil && len(auth.Username)+len(auth.Password)+len(auth.IdentityToken)+len(auth.RegistryToken) > 2*maxAuthHeader {
			t.Error("more came out than may go in")
		}
	})
}

// FuzzPullRef joins names and tags. What is accepted is a reference that means the same when it is read again.
func FuzzPullRef(f *testing.F) {
	for _, seed := range [][2]string{
		{"busybox", "1"}, {"r:5/a/b", ""}, {"a@sha256:" + strings.Repeat("a", 64), ""}, {"a:1", "sha256:" + strings.Repeat("b", 64)},
		{"docker.io/library/x", "y@z"}, {"[::1]:5/x", "t"}, {"", ""}, {"a:1@sha256:" + strings.Repeat("c", 64), "2"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, image, tag string) {
		ref, err := pullRef(image, tag)
		if err != nil {
			return
		}
		again, err := reference.ParseNormalizedNamed(ref)
		if err != nil || again.String() != ref {
			t.Errorf("%q, %q gave %q, which reads as %v, %v", image, tag, ref, again, err)
		}
	})
}
