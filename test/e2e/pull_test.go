package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
	"github.com/tritond/triton/test/registry"
)

// startRegistry serves a registry for one test.
func startRegistry(t *testing.T, opt registry.Options) *registry.Registry {
	t.Helper()
	bin, err := filepath.Abs("../../.cache/bin")
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Start(t.Context(), bin, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// withConfig is u with credentials of its own.
func withConfig(t *testing.T, u *under) *under {
	t.Helper()
	own := *u
	own.cli.ConfigDir = t.TempDir()
	return &own
}

// unique tags a copy of the test image that no other test has, and returns its name.
func unique(t *testing.T, u *under, host string) string {
	t.Helper()
	ref := host + "/team/app" + randomHex() + ":v1"
	u.ok(t, "tag", images.Busybox, ref)
	return ref
}

func TestPushThenPullThenRun(t *testing.T) {
	u := shared(t)
	r := startRegistry(t, registry.Options{})
	ref := unique(t, u, r.Addr)
	id := u.ok(t, "image", "inspect", "-f", "{{.Id}}", ref)
	out := u.ok(t, "push", ref)
	matches(t, "push", out, `The push refers to repository \[`+r.Addr+`/team/app`)
	matches(t, "push", out, `v1: digest: sha256:[0-9a-f]{64} size: \d+`)
	digest := u.ok(t, "image", "inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", ref)
	name := strings.TrimSuffix(ref, ":v1")
	matches(t, "digest after push", digest, name+"@sha256:")
	matches(t, "push again", u.ok(t, "push", ref), "Layer already exists")

	matches(t, "rmi", u.ok(t, "rmi", ref), "Untagged: "+name+"@sha256:")
	u.fails(t, 1, "(?i)no such image", "image", "inspect", ref)
	out = u.ok(t, "pull", ref)
	matches(t, "pull", out, "v1: Pulling from team/app")
	matches(t, "pull", out, "Status: Downloaded newer image for "+ref)
	equal(t, "id", u.ok(t, "image", "inspect", "-f", "{{.Id}}", ref), id)
	matches(t, "pull again", u.ok(t, "pull", ref), "Status: Image is up to date for "+ref)
	equal(t, "run", u.ok(t, "run", "--rm", ref, "echo", "pulled"), "pulled")
	u.ok(t, "rmi", ref)

	// By digest, and by `docker run` of an image that is not there.
	byDigest := ""
	for _, d := range strings.Fields(digest) {
		if strings.HasPrefix(d, name+"@") {
			byDigest = d
		}
	}
	matches(t, "pull by digest", u.ok(t, "pull", byDigest), "Digest: "+strings.TrimPrefix(byDigest, name+"@"))
	equal(t, "id", u.ok(t, "image", "inspect", "-f", "{{.Id}}", byDigest), id)
	u.ok(t, "rmi", byDigest)
	equal(t, "run of a missing image", u.ok(t, "run", "--rm", ref, "echo", "found"), "found")
	u.ok(t, "rmi", ref)
}

func TestPullAllTags(t *testing.T) {
	u := shared(t)
	r := startRegistry(t, registry.Options{})
	ref := unique(t, u, r.Addr)
	name := strings.TrimSuffix(ref, ":v1")
	u.ok(t, "tag", images.True, name+":v2")
	out := u.ok(t, "push", "--all-tags", name)
	matches(t, "push", out, `v1: digest: sha256`)
	matches(t, "push", out, `v2: digest: sha256`)
	u.ok(t, "rmi", ref, name+":v2")
	u.ok(t, "pull", "--all-tags", name)
	tags := strings.Fields(u.ok(t, "images", "--format", "{{.Tag}}", name))
	slices.Sort(tags)
	equal(t, "tags", strings.Join(tags, " "), "v1 v2")
	u.ok(t, "rmi", ref, name+":v2")
}

func TestRegistryRefusesInDockersWords(t *testing.T) {
	u := shared(t)
	r := startRegistry(t, registry.Options{})
	ref := unique(t, u, r.Addr)
	u.ok(t, "push", ref)
	name := strings.TrimSuffix(ref, ":v1")
	u.fails(t, 1, "manifest for "+name+":nosuch not found: manifest unknown|"+name+":nosuch: not found", "pull", name+":nosuch")
	u.fails(t, 1, "connection refused", "pull", "127.0.0.1:1/x:y")
	u.fails(t, 1, "(tag does not exist|An image does not exist locally with the tag)", "push", name+":other")
	u.fails(t, 1, "no matching manifest|does not match the specified platform|does not provide", "pull", "--platform", "linux/arm64", ref)
	u.fails(t, 1, "invalid reference format", "pull", r.Addr+"/Upper")
	u.fails(t, 125, "connection refused", "run", "--rm", "127.0.0.1:1/x:y")
	u.ok(t, "rmi", ref)
}

func TestLoginGivesAccess(t *testing.T) {
	u := withConfig(t, shared(t))
	r := startRegistry(t, registry.Options{User: "alice", Password: "se cret:1"})
	ref := unique(t, u, r.Addr)
	u.fails(t, 1, "(access denied|no basic auth credentials)", "push", ref)
	u.fails(t, 1, "(unauthorized|401)", "login", "-u", "alice", "-p", "wrong", r.Addr)
	matches(t, "login", u.ok(t, "login", "-u", "alice", "-p", "se cret:1", r.Addr), "Login Succeeded")
	u.ok(t, "push", ref)
	u.ok(t, "rmi", ref)
	u.ok(t, "pull", ref)
	u.ok(t, "logout", r.Addr)
	u.ok(t, "rmi", ref)
	u.fails(t, 1, "(access denied|no basic auth credentials)", "pull", ref)
	u.fails(t, 125, "(access denied|no basic auth credentials)", "run", "--rm", ref)
}

// slowly passes requests on to a registry and lets only so many bytes of a blob through, until it is told to go on.
type slowly struct {
	*httputil.ReverseProxy
	limit atomic.Int64 // bytes of one answer; negative: no limit
	held  chan struct{}
	asked atomic.Int64 // requests for a part of a blob
}

func (s *slowly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Range") != "" {
		s.asked.Add(1)
	}
	if s.limit.Load() >= 0 && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		s.ReverseProxy.ServeHTTP(&cutWriter{ResponseWriter: w, s: s, done: r.Context().Done()}, r)
		return
	}
	s.ReverseProxy.ServeHTTP(w, r)
}

// cutWriter stops in the middle until the client goes.
type cutWriter struct {
	http.ResponseWriter
	s    *slowly
	done <-chan struct{}
	n    int64
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if limit := c.s.limit.Load(); limit >= 0 && c.n+int64(len(b)) > limit {
		http.NewResponseController(c.ResponseWriter).Flush()
		select {
		case c.s.held <- struct{}{}:
		default:
		}
		<-c.done
		return 0, http.ErrAbortHandler
	}
	c.n += int64(len(b))
	return c.ResponseWriter.Write(b)
}

// proxied serves s before the registry and returns its address.
func proxied(t *testing.T, addr string) (*slowly, string) {
	t.Helper()
	s := &slowly{ReverseProxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}), held: make(chan struct{}, 16)}
	s.limit.Store(-1)
	return s, newServer(t, s)
}

// TestKilledPullGoesOn: what a pull downloaded until the daemon was killed is not downloaded again.
func TestKilledPullGoesOn(t *testing.T) {
	u := own(t)
	r := startRegistry(t, registry.Options{})
	s, addr := proxied(t, r.Addr)
	ref := addr + "/big:1"
	importBig(t, u, ref, 8<<20)
	u.ok(t, "push", ref)
	u.ok(t, "rmi", ref)

	s.limit.Store(4 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pulled := make(chan error, 1)
	go func() {
		_, err := u.cli.Run(ctx, nil, "pull", ref)
		pulled <- err
	}()
	<-s.held
	eventually(t, commandTime, "bytes are in the store", func() bool { return ingested(t, u.tritond) > 1<<20 })
	if err := u.tritond.Kill(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-pulled
	s.limit.Store(-1)
	u = startOwn(t, u.tritond)
	u.ok(t, "pull", ref)
	if s.asked.Load() == 0 {
		t.Error("the second pull asked for no part of a blob: it began anew")
	}
	u.ok(t, "run", "--rm", ref, "/true")
	if n := ingested(t, u.tritond); n != 0 {
		t.Errorf("%d bytes of unfinished downloads are left", n)
	}
}

// TestVanishedClientEndsThePull: when the client goes, the registry is left alone.
func TestVanishedClientEndsThePull(t *testing.T) {
	u := own(t)
	r := startRegistry(t, registry.Options{})
	s, addr := proxied(t, r.Addr)
	ref := addr + "/big:1"
	importBig(t, u, ref, 4<<20)
	u.ok(t, "push", ref)
	u.ok(t, "rmi", ref)
	s.limit.Store(1 << 20)
	var open atomic.Int64
	inner := s.ReverseProxy.Transport
	if inner == nil {
		inner = http.DefaultTransport
	}
	s.ReverseProxy.Transport = counting{inner, &open}
	ctx, cancel := context.WithCancel(t.Context())
	pulled := make(chan error, 1)
	go func() {
		_, err := u.cli.Run(ctx, nil, "pull", ref)
		pulled <- err
	}()
	<-s.held
	cancel()
	<-pulled
	eventually(t, commandTime, "the pull ended", func() bool { return open.Load() == 0 })
	u.fails(t, 1, "(?i)no such image", "image", "inspect", ref)
}

// counting counts the requests under way: one ends with its context.
type counting struct {
	http.RoundTripper
	open *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.open.Add(1)
	context.AfterFunc(r.Context(), func() { c.open.Add(-1) })
	return c.RoundTripper.RoundTrip(r)
}

// TestWrongContentIsRefused: a blob that is not what its digest says makes no image, and can be pulled once it is right.
func TestWrongContentIsRefused(t *testing.T) {
	u := own(t)
	r := startRegistry(t, registry.Options{})
	ref := r.Addr + "/bad:1"
	layer := importBig(t, u, ref, 1<<20)
	u.ok(t, "push", ref)
	u.ok(t, "rmi", ref)
	blob := r.Blob(layer)
	good, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)/2] ^= 0xff
	if err := os.WriteFile(blob, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	u.fails(t, 1, "filesystem layer verification failed for digest "+layer, "pull", ref)
	u.fails(t, 1, "(?i)no such image", "image", "inspect", ref)
	if err := os.WriteFile(blob, good, 0o644); err != nil {
		t.Fatal(err)
	}
	u.ok(t, "pull", ref)
	u.ok(t, "run", "--rm", ref, "/true")

	// Damage in the daemon's own store: a push finds it, and a pull repairs it.
	mine := filepath.Join(u.tritond.DataRoot, "containerd/content/blobs/sha256", strings.TrimPrefix(layer, "sha256:"))
	if err := os.Chmod(mine, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, bad, 0o444); err != nil {
		t.Fatal(err)
	}
	other := startRegistry(t, registry.Options{})
	moved := other.Addr + "/bad:1"
	u.ok(t, "tag", ref, moved)
	u.fails(t, 1, "content "+layer+" in the store is damaged", "push", moved)
	u.ok(t, "pull", ref)
	u.ok(t, "push", moved)
}

// importBig makes an image of /true and size bytes that do not compress, and returns the digest of its layer.
func importBig(t *testing.T, u *under, ref string, size int64) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "big.tar")
	if err := images.WriteBig(archive, all.images.Bin+"/true", size); err != nil {
		t.Fatal(err)
	}
	u.ok(t, "import", "-c", `CMD ["/true"]`, archive, ref)
	raw, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ingested sums the bytes of unfinished downloads in a daemon's store.
func ingested(t *testing.T, d *engine.Tritond) (sum int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(d.DataRoot, "containerd/content/ingest/*/data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// newServer serves a handler on loopback until the test ends.
func newServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}
