package auth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// The paths of a login: POST a Login to LoginPath, nothing to LogoutPath; GET LoginPath tells who one is.
const (
	LoginPath  = "/triton/v1/login"
	LogoutPath = "/triton/v1/logout"
)

// Login is what is posted to LoginPath: one of the two.
type Login struct {
	Token string `json:"token,omitempty"`
	// Code is from a LoginLink.
	Code string `json:"code,omitempty"`
}

// Who answers a login.
type Who struct {
	Tenant   triton.Tenant `json:"tenant"`
	Operator bool          `json:"operator"`
	Name     string        `json:"name"`
	Expires  time.Time     `json:"expires,omitzero"`
}

// code is a login that was promised to whoever brings its text first.
type code struct {
	text    string
	session Credential
	expires time.Time
}

const (
	codeLife = 15 * time.Minute
	// maxCodes bounds the codes that wait; the oldest goes.
	maxCodes = 64
	// maxLogin bounds the body of a login, in bytes.
	maxLogin = 4 << 10
)

// LoginLink returns a link to base (http://host:port) that logs its first user in as c. It is good for a quarter of an
// hour. The code is in the fragment, which browsers neither send nor log.
func (a *Authority) LoginLink(base string, c Caller) (string, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("login link: base %q: must be http://HOST:PORT or https://HOST:PORT", base)
	}
	session := Credential{Kind: KindSession, Tenant: c.Tenant, Role: c.role(), Name: c.Name}
	if kind, id, ok := strings.Cut(c.id, ":"); ok && Kind(kind) != KindSession {
		session.Parent = id
	}
	if c.Tenant != triton.DefaultTenant {
		session.Role = RoleTenant
	}
	if err := session.validate(); err != nil {
		return "", fmt.Errorf("login link: %w", err)
	}
	text, id := newSecret(codePrefix)
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.codes) >= maxCodes {
		oldest := ""
		for k, v := range a.codes {
			if oldest == "" || v.expires.Before(a.codes[oldest].expires) {
				oldest = k
			}
		}
		delete(a.codes, oldest)
	}
	a.codes[id] = code{text, session, now.Add(codeLife)}
	return u.Scheme + "://" + u.Host + "/login#code=" + text, nil
}

// takeCode gives what a code promised, once.
func (a *Authority) takeCode(text string) (Credential, error) {
	id, err := parseSecret(codePrefix, text)
	if err != nil {
		return Credential{}, fmt.Errorf("code: %w: %w", err, errdefs.ErrUnauthenticated)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.codes[id]
	if !ok || subtle.ConstantTimeCompare([]byte(c.text), []byte(text)) != 1 || !a.cfg.Now().Before(c.expires) {
		return Credential{}, fmt.Errorf("code: used already or expired, `triton login` makes another: %w", errdefs.ErrUnauthenticated)
	}
	delete(a.codes, id)
	return c.session, nil
}

// session starts one.
func (a *Authority) session(ctx context.Context, l Login) (text string, c Credential, err error) {
	life := sessionLife
	switch {
	case (l.Token == "") == (l.Code == ""):
		return "", c, fmt.Errorf("login: give a token or a code: %w", errdefs.ErrInvalidArgument)
	case l.Code != "":
		c, err = a.takeCode(l.Code)
	default:
		var id string
		if id, err = parseSecret(tokenPrefix, l.Token); err != nil {
			err = fmt.Errorf("token: %w: %w", err, errdefs.ErrUnauthenticated)
			break
		}
		if c, err = a.lookup(ctx, id, KindToken); err == nil {
			life = min(life, c.Expires.Sub(a.cfg.Now()))
			c = Credential{Kind: KindSession, Tenant: c.Tenant, Role: c.Role, Name: c.Name, Parent: c.ID}
		}
	}
	if err != nil {
		return "", c, err
	}
	text, c.ID = newSecret(sessionPrefix)
	c, err = a.add(ctx, c, max(life, time.Second))
	return text, c, err
}

// Handler serves LoginPath and LogoutPath. It goes outside Require.
func (a *Authority) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+LoginPath, a.login)
	mux.Handle("GET "+LoginPath, a.Require(http.HandlerFunc(whoami)))
	mux.HandleFunc("POST "+LogoutPath, a.logout)
	return mux
}

func whoami(w http.ResponseWriter, r *http.Request) {
	c, _ := FromContext(r.Context())
	reply(w, http.StatusOK, Who{Tenant: c.Tenant, Operator: c.Operator, Name: c.Name})
}

func (a *Authority) login(w http.ResponseWriter, r *http.Request) {
	if err := sameOrigin(r, false); err != nil {
		refuse(w, err)
		return
	}
	if wait := a.limit.wait(r.RemoteAddr); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		reply(w, http.StatusTooManyRequests, message{"too many failed logins from this address: wait a minute"})
		return
	}
	l, err := decodeLogin(w, r)
	if err != nil {
		refuse(w, err)
		return
	}
	text, c, err := a.session(r.Context(), l)
	if errdefs.IsUnauthorized(err) {
		a.limit.failed(r.RemoteAddr)
		a.cfg.Log.Warn("login refused", "remote", r.RemoteAddr, "err", err)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	a.cfg.Log.Info("login", "tenant", c.Tenant, "role", c.Role, "name", c.Name, "remote", r.RemoteAddr)
	http.SetCookie(w, a.cookie(r, text, c.Expires))
	reply(w, http.StatusOK, Who{Tenant: c.Tenant, Operator: c.Role == RoleOperator, Name: c.Name, Expires: c.Expires})
}

// decodeLogin takes JSON that says so: a form of a foreign page cannot.
func decodeLogin(w http.ResponseWriter, r *http.Request) (Login, error) {
	if media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(media) != "application/json" {
		return Login{}, fmt.Errorf("login: Content-Type must be application/json: %w", errdefs.ErrInvalidArgument)
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLogin))
	dec.DisallowUnknownFields()
	var l Login
	if err := dec.Decode(&l); err != nil {
		return Login{}, fmt.Errorf("login: the body must be {\"token\": \"…\"} or {\"code\": \"…\"}: %w", errdefs.ErrInvalidArgument)
	}
	return l, nil
}

// logout ends the session of the cookie. That there is none is no error: its owner is logged out.
func (a *Authority) logout(w http.ResponseWriter, r *http.Request) {
	if err := sameOrigin(r, true); err != nil {
		refuse(w, err)
		return
	}
	if ck, err := r.Cookie(a.cookieName(r)); err == nil {
		if id, err := parseSecret(sessionPrefix, ck.Value); err == nil {
			if err := a.remove(r.Context(), id); err != nil {
				refuse(w, err)
				return
			}
		}
	}
	gone := a.cookie(r, "", time.Unix(1, 0))
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	w.WriteHeader(http.StatusNoContent)
}

// cookieName has the prefix that browsers tie to this host and TLS, where there is TLS.
func (a *Authority) cookieName(r *http.Request) string {
	if r.TLS != nil {
		return "__Host-triton-" + a.cfg.Instance
	}
	return "triton-" + a.cfg.Instance
}

func (a *Authority) cookie(r *http.Request, value string, expires time.Time) *http.Cookie {
	return &http.Cookie{
		Name: a.cookieName(r), Value: value, Path: "/", Expires: expires,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}

// message is the form of the Docker API's errors, so that one client understands both.
type message struct {
	Message string `json:"message"`
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck,errchkjson // the client is gone
}

// refuse answers with the status of err's kind.
func refuse(w http.ResponseWriter, err error) {
	status, text := http.StatusInternalServerError, err.Error()
	for kind, s := range map[error]int{
		errdefs.ErrInvalidArgument: http.StatusBadRequest, errdefs.ErrUnauthenticated: http.StatusUnauthorized,
		errdefs.ErrPermissionDenied: http.StatusForbidden, errdefs.ErrNotFound: http.StatusNotFound,
		errdefs.ErrResourceExhausted: http.StatusServiceUnavailable, errdefs.ErrUnavailable: http.StatusServiceUnavailable,
	} {
		if errors.Is(err, kind) {
			status, text = s, strings.TrimSuffix(text, ": "+kind.Error())
		}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="triton"`)
	}
	reply(w, status, message{text})
}
