package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, path string, header http.Header) *http.Response {
	t.Helper()
	h, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header = header
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// script is the page's own path to its code.
func script(t *testing.T) string {
	t.Helper()
	body := read(t, get(t, "/c/anything/logs?q=x", http.Header{}))
	m := regexp.MustCompile(`src="(/assets/[^"]+)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no script in %s", body)
	}
	return m[1]
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAssetsAreCompressedOnceAndKeptForEver(t *testing.T) {
	path := script(t)
	zip := get(t, path, http.Header{"Accept-Encoding": {"br, gzip"}})
	plain := get(t, path, http.Header{"Accept-Encoding": {"gzip;q=0"}})
	if zip.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" {
		t.Errorf("encodings %q and %q", zip.Header.Get("Content-Encoding"), plain.Header.Get("Content-Encoding"))
	}
	if zip.ContentLength*2 > plain.ContentLength || plain.ContentLength != int64(len(read(t, plain))) {
		t.Errorf("lengths %d and %d", zip.ContentLength, plain.ContentLength)
	}
	if c := zip.Header.Get("Cache-Control"); !strings.Contains(c, "immutable") {
		t.Errorf("Cache-Control of a hashed name: %q", c)
	}
	again := get(t, path, http.Header{"If-None-Match": {zip.Header.Get("ETag")}})
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("status %d for a known ETag", again.StatusCode)
	}
}

func TestEveryPathButAssetsIsThePageAndIsAskedForAnew(t *testing.T) {
	for path, want := range map[string]int{"/": 200, "/c": 200, "/c/abc/logs": 200, "/assets/none.js": 404} {
		resp := get(t, path, http.Header{})
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
		if want == 200 && (resp.Header.Get("Cache-Control") != "no-cache" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'self'")) {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
}

// TestCompressedFormsAreOfTheFilesBesideThem: a stale one would be kept by browsers for ever.
func TestCompressedFormsAreOfTheFilesBesideThem(t *testing.T) {
	path := script(t)
	zip := get(t, path, http.Header{"Accept-Encoding": {"gzip"}})
	z, err := gzip.NewReader(zip.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != read(t, get(t, path, http.Header{})) {
		t.Errorf("%s.gz is not of %s: run make web", path, path)
	}
}

// TestFirstLoadIsSmall: what index.html names, and what that imports at once. The limit is 70 KB.
func TestFirstLoadIsSmall(t *testing.T) {
	total := int64(0)
	seen := map[string]bool{}
	todo := []string{"/"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		total += get(t, path, http.Header{"Accept-Encoding": {"gzip"}}).ContentLength
		text := read(t, get(t, path, http.Header{}))
		for _, m := range regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(text, -1) {
			todo = append(todo, m[1])
		}
		for _, m := range regexp.MustCompile(`(?:from|import)"\./([^"]+)"`).FindAllStringSubmatch(text, -1) { // import() is lazy
			todo = append(todo, "/assets/"+m[1])
		}
	}
	if len(seen) < 3 {
		t.Fatalf("only %v is loaded", seen)
	}
	t.Logf("first load: %d bytes in %d files", total, len(seen))
	if total > 70_000 {
		t.Errorf("first load is %d bytes compressed, at most 70000", total)
	}
}
