package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed dist
var dist embed.FS

// policy lets the page load from where it came and nowhere else. Inline styles are xterm's.
const policy = "default-src 'self'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; " +
	"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// asset is one file in both forms.
type asset struct {
	kind       string // content type
	etag       string
	plain, zip []byte // zip is nil where the file does not shrink
	immutable  bool   // its name has a hash of its content
}

// Handler serves the page: files below /assets/ and, for every other path, index.html, which reads the path itself. It
// answers GET and HEAD alone. Files come from the binary, so nothing is read or compressed for a request.
func Handler() (http.Handler, error) {
	assets := map[string]*asset{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".gz") {
			return err
		}
		a, err := load(name)
		assets[strings.TrimPrefix(name, "dist")] = a
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the built page: %w", err)
	}
	index := assets["/index.html"]
	if index == nil {
		return nil, fmt.Errorf("read the built page: no index.html")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			if a := assets[r.URL.Path]; a != nil {
				a.serve(w, r)
			} else {
				http.NotFound(w, r)
			}
			return
		}
		index.serve(w, r)
	}), nil
}

// load reads one file and its compressed form.
func load(name string) (*asset, error) {
	plain, err := dist.ReadFile(name)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(plain)
	a := &asset{
		kind: mime.TypeByExtension(path.Ext(name)), etag: `"` + hex.EncodeToString(sum[:12]) + `"`, plain: plain,
		immutable: strings.HasPrefix(name, "dist/assets/"),
	}
	if a.kind == "" {
		a.kind = "application/octet-stream"
	}
	f, err := dist.Open(name + ".gz")
	if err != nil {
		return a, nil // a file that does not shrink has no other form
	}
	defer f.Close()
	a.zip, err = io.ReadAll(f)
	return a, err
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "no-cache")
	if a.immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.plain
	if a.zip != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		body = a.zip
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		w.Write(body) //nolint:errcheck // the client is gone
	}
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3) as far as is needed: a weight of 0 forbids.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, valued := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		v, err := strconv.ParseFloat(q, 64)
		return !valued || err == nil && v > 0
	}
	return false
}
