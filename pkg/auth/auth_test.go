package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/triton"
)

// store is etcd, as the daemon has it.
type store struct{ c *cluster.Cluster }

func (s store) Get(ctx context.Context, key string) ([]byte, error) {
	kv, err := s.c.Get(ctx, key)
	return kv.Value, err
}

func (s store) List(ctx context.Context, prefix string) (keys []string, values [][]byte, err error) {
	kvs, _, err := s.c.List(ctx, prefix)
	for _, kv := range kvs {
		keys, values = append(keys, kv.Key), append(values, kv.Value)
	}
	return keys, values, err
}

func (s store) Create(ctx context.Context, key string, value []byte) error {
	_, err := s.c.Create(ctx, key, value)
	return err
}

func (s store) Delete(ctx context.Context, key string) error { return s.c.Delete(ctx, key, 0) }

// world is an Authority whose clock stands still.
type world struct {
	*Authority
	store store
	mu    sync.Mutex
	now   time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c, err := cluster.Open(t.Context(), cluster.Config{Dir: t.TempDir(), NoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &world{store: store{c}, now: time.Now()}
	w.Authority = New(Config{Store: w.store, Now: w.clock, Log: slog.New(slog.DiscardHandler), Instance: "main"})
	return w
}

func (w *world) tenant(t *testing.T, name triton.Tenant) {
	t.Helper()
	if _, err := w.AddTenant(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func (w *world) token(t *testing.T, tenant triton.Tenant, role Role) (string, Credential) {
	t.Helper()
	text, c, err := w.Issue(t.Context(), tenant, role, "ci", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return text, c
}

// echo answers who called.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	c, ok := FromContext(r.Context())
	fmt.Fprintf(w, "%s operator=%v %v", c.Tenant, c.Operator, ok)
})

type header map[string]string

// ask sends one request to h and returns status and body.
func ask(t *testing.T, h http.Handler, method, path, body string, hs header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	for k, v := range hs {
		if k == "Host" {
			r.Host = v
			continue
		}
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("got %d %s, want %d with %q", w.Code, w.Body, status, text)
	}
	if status >= http.StatusBadRequest {
		var m message
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.Message == "" {
			t.Errorf("the refusal is no JSON with a message: %s", w.Body)
		}
	}
}

const jsonType = "application/json"

func TestBearerTokenIsItsTenant(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "alice")
	w.tenant(t, "bob")
	h := w.Require(echo)
	alice, cred := w.token(t, "alice", RoleTenant)
	root, _ := w.token(t, "default", RoleOperator)
	bearer := func(s string) header { return header{"Authorization": "Bearer " + s} }
	want(t, ask(t, h, "GET", "/x", "", bearer(alice)), 200, "alice operator=false true")
	want(t, ask(t, h, "DELETE", "/x", "", bearer(root)), 200, "default operator=true true")
	want(t, ask(t, h, "GET", "/x", "", nil), 401, "log in first")
	want(t, ask(t, h, "GET", "/x", "", bearer(alice[:20])), 401, "not copied whole")
	want(t, ask(t, h, "GET", "/x", "", bearer("hunter2")), 401, "does not begin with")
	want(t, ask(t, h, "GET", "/x", "", bearer(alice[:len(alice)-2]+"AA")), 401, "not known, revoked or expired")
	want(t, ask(t, h, "GET", "/x", "", header{"Authorization": "Basic YTpi"}), 401, "must be: Bearer TOKEN")
	// Acting for another: only an operator, only for one that exists.
	as := func(s, tenant string) header { h := bearer(s); h[TenantHeader] = tenant; return h }
	want(t, ask(t, h, "GET", "/x", "", as(root, "bob")), 200, "bob operator=true")
	want(t, ask(t, h, "GET", "/x", "", as(root, "carol")), 404, "no tenant carol")
	want(t, ask(t, h, "GET", "/x", "", as(root, "../etc")), 400, "only a-z")
	want(t, ask(t, h, "GET", "/x", "", as(alice, "bob")), 403, "only an operator")
	want(t, ask(t, h, "GET", "/x", "", as(alice, "alice")), 200, "alice")
	// Revoked and expired.
	if _, err := w.Revoke(t.Context(), cred.ID[:12]); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, h, "GET", "/x", "", bearer(alice)), 401, "not known, revoked or expired")
	w.pass(2 * time.Hour)
	want(t, ask(t, h, "GET", "/x", "", bearer(root)), 401, "not known, revoked or expired")
}

func TestSecretsAreNotStored(t *testing.T) {
	w := newWorld(t)
	text, _ := w.token(t, "default", RoleOperator)
	_, values, err := w.store.List(t.Context(), "/")
	if err != nil || len(values) != 1 {
		t.Fatalf("%v, %d values", err, len(values))
	}
	for _, v := range values {
		if strings.Contains(string(v), text[len(tokenPrefix):]) {
			t.Errorf("the token's text is stored: %s", v)
		}
	}
}

// login logs in and returns the cookie.
func (w *world) login(t *testing.T, body string) *http.Cookie {
	t.Helper()
	r := ask(t, w.Handler(), "POST", LoginPath, body, header{"Content-Type": jsonType, "Origin": "http://127.0.0.1:8080"})
	want(t, r, 200, `"tenant"`)
	cookies := r.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("got %d cookies", len(cookies))
	}
	return cookies[0]
}

func TestLoginCookieIsForOurOwnPageOnly(t *testing.T) {
	w := newWorld(t)
	text, _ := w.token(t, "default", RoleOperator)
	c := w.login(t, `{"token":"`+text+`"}`)
	if c.Name != "triton-main" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Secure {
		t.Errorf("got cookie %+v", c)
	}
	h := w.Require(echo)
	with := func(hs header) header {
		out := header{"Cookie": c.Name + "=" + c.Value}
		for k, v := range hs {
			out[k] = v
		}
		return out
	}
	const own, other = "http://127.0.0.1:8080", "http://127.0.0.1:9999"
	want(t, ask(t, h, "GET", "/x", "", with(nil)), 200, "default operator=true")
	want(t, ask(t, h, "POST", "/x", "", with(header{"Origin": own})), 200, "default")
	want(t, ask(t, h, "POST", "/x", "", with(nil)), 403, "other web pages")
	want(t, ask(t, h, "POST", "/x", "", with(header{"Origin": other})), 403, "other web pages")
	want(t, ask(t, h, "POST", "/x", "", with(header{"Origin": "null"})), 403, "other web pages")
	want(t, ask(t, h, "GET", "/x", "", with(header{"Origin": other})), 403, "other web pages")
	want(t, ask(t, h, "GET", "/x", "", with(header{"Upgrade": "websocket"})), 403, "other web pages")
	want(t, ask(t, h, "GET", "/x", "", with(header{"Upgrade": "websocket", "Origin": other})), 403, "other web pages")
	want(t, ask(t, h, "GET", "/x", "", with(header{"Upgrade": "websocket", "Origin": own})), 200, "default")
	// A token is no cookie and a cookie no token.
	want(t, ask(t, h, "GET", "/x", "", header{"Cookie": c.Name + "=" + text}), 401, "does not begin")
	want(t, ask(t, h, "GET", "/x", "", header{"Authorization": "Bearer " + c.Value}), 401, "does not begin")
	// The end.
	want(t, ask(t, w.Handler(), "POST", LogoutPath, "", with(header{"Origin": other})), 403, "other web pages")
	r := ask(t, w.Handler(), "POST", LogoutPath, "", with(header{"Origin": own}))
	if r.Code != 204 || r.Result().Cookies()[0].MaxAge != -1 {
		t.Errorf("logout: %d %v", r.Code, r.Result().Cookies())
	}
	want(t, ask(t, h, "GET", "/x", "", with(nil)), 401, "not known, revoked or expired")
}

func TestSessionEndsWithItsToken(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "alice")
	text, cred := w.token(t, "alice", RoleTenant)
	c := w.login(t, `{"token":"`+text+`"}`)
	h, cookie := w.Require(echo), header{"Cookie": c.Name + "=" + c.Value}
	want(t, ask(t, h, "GET", "/x", "", cookie), 200, "alice operator=false")
	if err := w.store.Delete(t.Context(), credentialsPrefix+cred.ID); err != nil { // as a kill in the midst of Revoke leaves it
		t.Fatal(err)
	}
	want(t, ask(t, h, "GET", "/x", "", cookie), 401, "not known, revoked or expired")
}

func TestLoginLinkIsGoodForOneLogin(t *testing.T) {
	w := newWorld(t)
	operator := Caller{Tenant: triton.DefaultTenant, Operator: true, Name: "console"}
	link, err := w.LoginLink("http://127.0.0.1:8080", operator)
	if err != nil {
		t.Fatal(err)
	}
	code, ok := strings.CutPrefix(link, "http://127.0.0.1:8080/login#code=")
	if !ok {
		t.Fatalf("got link %s", link)
	}
	body := `{"code":"` + code + `"}`
	c := w.login(t, body)
	want(t, ask(t, w.Handler(), "GET", LoginPath, "", header{"Cookie": c.Name + "=" + c.Value}), 200, `"operator":true`)
	again := func() *httptest.ResponseRecorder {
		return ask(t, w.Handler(), "POST", LoginPath, body, header{"Content-Type": jsonType})
	}
	want(t, again(), 401, "used already or expired")
	link, _ = w.LoginLink("http://127.0.0.1:8080", operator)
	w.pass(codeLife)
	body = `{"code":"` + strings.SplitAfter(link, "code=")[1] + `"}`
	want(t, again(), 401, "used already or expired")
	if _, err := w.LoginLink("javascript:alert(1)", operator); err == nil {
		t.Error("a base that is no web address was taken")
	}
	for range 3 * maxCodes {
		if _, err := w.LoginLink("http://h:1", operator); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.codes) > maxCodes {
		t.Errorf("%d codes wait", len(w.codes))
	}
}

func TestFailedLoginsAreSlowedDown(t *testing.T) {
	w := newWorld(t)
	good, _ := w.token(t, "default", RoleOperator)
	bad := `{"token":"` + tokenPrefix + strings.Repeat("A", 43) + `"}`
	try := func(body string) *httptest.ResponseRecorder {
		return ask(t, w.Handler(), "POST", LoginPath, body, header{"Content-Type": jsonType})
	}
	for range maxFailures {
		want(t, try(bad), 401, "not known")
	}
	r := try(`{"token":"` + good + `"}`)
	want(t, r, 429, "wait a minute")
	if r.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.pass(failureWindow)
	want(t, try(`{"token":"`+good+`"}`), 200, "default")
	for i := range 3 * maxAddresses {
		w.limit.failed(fmt.Sprintf("10.%d.%d.1:1", i/256, i%256))
	}
	if n := len(w.limit.by); n > maxAddresses+1 {
		t.Errorf("%d addresses are remembered", n)
	}
}

func TestBadLoginsAreRefusedClearly(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		body   string
		hs     header
		status int
		text   string
	}{
		{`{}`, header{"Content-Type": jsonType}, 400, "give a token or a code"},
		{`{"token":"a","code":"b"}`, header{"Content-Type": jsonType}, 400, "give a token or a code"},
		{`{"password":"a"}`, header{"Content-Type": jsonType}, 400, "the body must be"},
		{`{`, header{"Content-Type": jsonType}, 400, "the body must be"},
		{`{"token":"` + strings.Repeat("x", maxLogin) + `"}`, header{"Content-Type": jsonType}, 400, "the body must be"},
		{`token=x`, header{"Content-Type": "application/x-www-form-urlencoded"}, 400, "must be application/json"},
		{`{"token":"x"}`, header{"Content-Type": jsonType, "Origin": "http://evil"}, 403, "other web pages"},
	} {
		want(t, ask(t, w.Handler(), "POST", LoginPath, c.body, c.hs), c.status, c.text)
	}
}

func TestSocketIsTheOperatorsButNoBrowsers(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "bob")
	h := w.Local("console", echo)
	want(t, ask(t, h, "POST", "/x", "", nil), 200, "default operator=true true")
	want(t, ask(t, h, "POST", "/x", "", header{TenantHeader: "bob"}), 200, "bob operator=true")
	want(t, ask(t, h, "POST", "/x", "", header{"Origin": "http://127.0.0.1"}), 403, "browsers")
	want(t, ask(t, h, "GET", "/x", "", header{"Sec-Fetch-Site": "cross-site"}), 403, "browsers")
}

func TestOpenOnLoopbackOnly(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "alice")
	alice, _ := w.token(t, "alice", RoleTenant)
	root, _ := w.token(t, "default", RoleOperator)
	at := func(ip string) http.Handler {
		h := w.OpenOnLoopback(echo)
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			addr := &net.TCPAddr{IP: net.ParseIP(ip), Port: 8080}
			h.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(addr))))
		})
	}
	want(t, ask(t, at("127.0.0.1"), "GET", "/metrics", "", nil), 200, "")
	want(t, ask(t, at("127.0.0.1"), "GET", "/metrics", "", header{"Host": "localhost:8080"}), 200, "")
	want(t, ask(t, at("::1"), "GET", "/metrics", "", header{"Host": "[::1]:8080"}), 200, "")
	want(t, ask(t, at("127.0.0.1"), "GET", "/metrics", "", header{"Host": "evil.example"}), 401, "log in first")
	want(t, ask(t, at("192.0.2.1"), "GET", "/metrics", "", nil), 401, "log in first")
	want(t, ask(t, at("192.0.2.1"), "GET", "/metrics", "", header{"Authorization": "Bearer " + alice}), 403, "operators only")
	want(t, ask(t, at("192.0.2.1"), "GET", "/metrics", "", header{"Authorization": "Bearer " + root}), 200, "")
}

func TestLastingRequestEndsWithItsLogin(t *testing.T) {
	w := newWorld(t)
	w.cfg.Recheck = time.Millisecond
	text, cred := w.token(t, "default", RoleOperator)
	h := w.Require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c, _ := FromContext(r.Context())
		if ok, err := w.Valid(r.Context(), c); !ok || err != nil {
			t.Errorf("valid: %v %v", ok, err)
		}
		if _, err := w.Revoke(r.Context(), cred.ID); err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
			if context.Cause(r.Context()) != ErrEnded { //nolint:errorlint // the very value
				t.Errorf("ended by %v", context.Cause(r.Context()))
			}
		case <-time.After(10 * time.Second):
			t.Error("the request goes on after its token was revoked")
		}
	}))
	ask(t, h, "GET", "/x", "", header{"Authorization": "Bearer " + text})
}

func TestTenantWithObjectsStays(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "alice")
	text, _ := w.token(t, "alice", RoleTenant)
	uses := []string{"1 container"}
	ask2 := func(context.Context, triton.Tenant) ([]string, error) { return uses, nil }
	if err := w.RemoveTenant(t.Context(), "alice", ask2); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "1 container") {
		t.Errorf("got %v", err)
	}
	want(t, ask(t, w.Require(echo), "GET", "/", "", header{"Authorization": "Bearer " + text}), 200, "alice")
	uses = nil
	if err := w.RemoveTenant(t.Context(), "alice", ask2); err != nil {
		t.Fatal(err)
	}
	w.tenant(t, "alice") // a new one of the name: the old token is not its
	want(t, ask(t, w.Require(echo), "GET", "/", "", header{"Authorization": "Bearer " + text}), 401, "not known")
	if err := w.RemoveTenant(t.Context(), "default", ask2); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("default: got %v", err)
	}
	if _, err := w.AddTenant(t.Context(), "alice"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("twice: got %v", err)
	}
}

func TestCredentialsAreRefusedWithAllMistakes(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.Issue(t.Context(), "Bad!", "king", "a b", time.Hour)
	for _, text := range []string{`tenant "Bad!"`, `role "king"`, `name "a b"`} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %s in it", err, text)
		}
	}
	w.tenant(t, "alice")
	if _, _, err := w.Issue(t.Context(), "alice", RoleOperator, "x", time.Hour); !errdefs.IsInvalidArgument(err) {
		t.Errorf("operator of another tenant: got %v", err)
	}
	if _, _, err := w.Issue(t.Context(), "nobody", RoleTenant, "x", time.Hour); !errdefs.IsNotFound(err) {
		t.Errorf("token of no tenant: got %v", err)
	}
	if _, _, err := w.Issue(t.Context(), "alice", RoleTenant, "x", 100*365*24*time.Hour); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a century: got %v", err)
	}
}
