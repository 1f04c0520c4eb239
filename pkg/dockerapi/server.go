package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/common"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/triton"
)

// Config is what a Server is made of. Backend, Log and Caller are required.
type Config struct {
	Backend Backend
	Log     *slog.Logger
	// Version is the build version, shown in the Server header and by docker version.
	Version string
	// Caller says who calls. Its error's kind decides the status (Unauthenticated: 401).
	Caller func(*http.Request) (auth.Caller, error)
	// StorageDriver is what inspect shows as Driver; empty: overlayfs.
	StorageDriver string
	// Extra adds handlers below /triton/; they see the request before any version or tenant was looked at.
	Extra func(*http.ServeMux)
	// Now is the clock that "Up 3 seconds" is computed from; nil: time.Now.
	Now func() time.Time
}

// Server answers the Docker API. It is safe for concurrent use and owns no goroutine beyond the requests'.
type Server struct {
	Config
	routes  *routeIndex
	create  *ruleNode
	exec    *ruleNode
	update  *ruleNode
	extra   *http.ServeMux
	list    listCache
	answers answerCache
	names   nameCache
	started time.Time
}

// New makes a Server; it panics when a required field of the Config is missing.
func New(cfg Config) *Server {
	if cfg.Backend == nil || cfg.Log == nil || cfg.Caller == nil {
		panic("dockerapi.New: Backend, Log and Caller are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.StorageDriver == "" {
		cfg.StorageDriver = "overlayfs"
	}
	s := &Server{
		Config:  cfg,
		routes:  indexRoutes(routeTable()),
		create:  buildRules(createRules()),
		exec:    buildRules(execRules()),
		update:  buildRules(updateRules()),
		started: cfg.Now(),
	}
	if cfg.Extra != nil {
		s.extra = http.NewServeMux()
		cfg.Extra(s.extra)
	}
	return s
}

// call is one request on its way to a handler. A handler has no other way to learn whom it serves, so one that forgets
// the tenant does not compile.
type call struct {
	caller  auth.Caller
	tenant  triton.Tenant
	version apiVersion
	vars    map[string]string // from the route's path
	query   query
	r       *http.Request
	w       http.ResponseWriter
}

// handler serves one endpoint. An error that it returns before it wrote anything becomes the response.
type handler func(*Server, context.Context, *call) error

// Handler returns the API as an http.Handler.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// HTTPServer returns a server for the API with the timeouts it needs; the caller serves and
// shuts it down. ctx is the base of every request's context.
func (s *Server) HTTPServer(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:     s.Handler(),
		BaseContext: func(net.Listener) context.Context { return ctx },
		// A client that opens a connection and says nothing must not hold a descriptor for ever. Bodies have no deadline:
		// docker load and attach take as long as they take.
		ReadHeaderTimeout: time.Minute,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.commonHeaders(w.Header())
	if s.extra != nil && strings.HasPrefix(r.URL.Path, "/triton/") {
		s.extra.ServeHTTP(w, r)
		return
	}
	raw, path, versioned := splitVersion(r.URL.Path)
	rt, vars := s.routes.find(r.Method, path)
	if rt == nil {
		writeError(w, errPageNotFound)
		return
	}
	version := maxVersion
	if versioned {
		v, err := parseVersion(raw)
		if err == nil {
			err = checkVersion(raw, v)
		}
		if err != nil {
			if v > 0 && v < plainTextBelow {
				http.Error(w, err.Error(), statusOf(err))
				return
			}
			writeError(w, err)
			return
		}
		version = v
	}
	caller, err := s.Caller(r)
	if err != nil {
		writeError(w, err)
		return
	}
	s.run(rt, &call{caller: caller, tenant: caller.Tenant, version: version, vars: vars, query: query{r.URL.Query()}, r: r, w: w})
}

// run calls the handler and turns its error into the response, unless one has begun.
func (s *Server) run(rt *route, c *call) {
	out := &onceWriter{ResponseWriter: c.w}
	c.w = out
	err := rt.handle(s, c.r.Context(), c)
	if err == nil {
		return
	}
	status := statusOf(err)
	if status >= http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		s.Log.Warn("request failed", "method", c.r.Method, "path", c.r.URL.Path, "tenant", c.tenant, "status", status, "err", err)
	}
	if out.begun {
		return // the stream's end is all that can still be said
	}
	writeError(c.w, err)
}

func (s *Server) commonHeaders(h http.Header) {
	h.Set("Api-Version", MaxAPIVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", fmt.Sprintf("Triton/%s (%s)", s.Version, runtime.GOOS))
}

// onceWriter knows whether a response has begun.
type onceWriter struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader begins the response.
func (w *onceWriter) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *onceWriter) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *onceWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func writeError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, common.ErrorResponse{Message: messageOf(err)}) //nolint:errcheck // the client is gone
}

// writeJSON answers with a JSON body. As docker's, it ends in a newline and leaves < > & as they are.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

func (c *call) json(status int, v any) error { return writeJSON(c.w, status, v) }

func (c *call) noContent() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// flushHeader sends the status line and headers now: the client acts on them before the first byte of the body.
func (c *call) flushHeader(contentType string) error {
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(c.w).Flush(); err != nil {
		return fmt.Errorf("flush header: %w", err)
	}
	return nil
}
