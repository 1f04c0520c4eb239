package throttle

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// authority signs certificates of tenants.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate; that of a nil authority is its own.
func (a *authority) sign(t *testing.T, tenant string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tenant}, NotAfter: time.Now().Add(time.Hour),
		IsCA: a == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// boundedServer starts one that serves holders of certificates; operators are not bounded. It returns how to connect as somebody.
func boundedServer(t *testing.T, conns *Connections, h http.HandlerFunc) (dial func(who string) *tls.Conn) {
	t.Helper()
	own := (*authority)(nil).sign(t, "authority")
	ca := &authority{own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey)}
	clients := x509.NewCertPool()
	clients.AddCert(ca.cert)
	server := httptest.NewUnstartedServer(conns.Handler(h))
	server.Config.ConnContext = ConnContext
	address := server.Listener.Addr().String()
	cfg := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	server.Listener = conns.Listener(server.Listener, cfg, func(c *x509.Certificate) (triton.Tenant, bool, error) {
		if c.Subject.CommonName == "stranger" {
			return "", false, errors.New("a stranger")
		}
		return triton.Tenant(c.Subject.CommonName), c.Subject.CommonName != "operator", nil
	})
	server.Start()
	t.Cleanup(server.Close)
	certs := map[string]tls.Certificate{}
	for _, who := range []string{"acme", "globex", "operator", "stranger"} {
		certs[who] = ca.sign(t, who)
	}
	sessions := tls.NewLRUClientSessionCache(1) // whoever comes again resumes
	return func(who string) *tls.Conn {
		cfg := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certs[who]}}
		if who == "acme" {
			cfg.ClientSessionCache = sessions
		}
		conn, err := tls.Dial("tcp", address, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// ask makes a request on a connection.
func ask(t *testing.T, conn net.Conn, path string) (status int, body string, err error) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(b)), err
}

func answer(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") }

// Connections count from when the client is known, idle ones, resumed ones and those that are taken over too, and until they are closed.
func TestConnectionsOfATenantAreBounded(t *testing.T) {
	const most = 4
	conns := NewConnections(most)
	release := make(chan struct{})
	dial := boundedServer(t, conns, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hijack" {
			answer(w, r)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			<-release
			conn.Close()
		}()
	})
	have := func(open int) func() bool { return func() bool { return conns.Stats()["acme"].Open == open } }
	idle := dial("acme")
	until(t, "one that asks for nothing is counted", have(1))
	for range 2 {
		if status, body, err := ask(t, dial("acme"), "/"); err != nil || body != "served" {
			t.Fatalf("%d %q %v", status, body, err)
		}
	}
	until(t, "those that have asked are counted", have(3))
	if _, err := fmt.Fprint(dial("acme"), "GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	until(t, "one that is taken over is counted", have(most))
	refused := dial("acme")
	status, body, err := ask(t, refused, "/")
	if err != nil || status != http.StatusTooManyRequests || body != `{"message":"tenant acme has 4 connections open already, close some"}` {
		t.Errorf("one more: %d %q %v", status, body, err)
	}
	if _, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("it is open: %v", err)
	}
	until(t, "it does not count", have(most))
	for _, who := range []string{"globex", "operator"} {
		for range most {
			if status, body, err := ask(t, dial(who), "/"); err != nil || body != "served" {
				t.Errorf("%s: %d %q %v", who, status, body, err)
			}
		}
	}
	if _, _, err := ask(t, dial("stranger"), "/"); err == nil {
		t.Error("a stranger is served")
	}
	close(release)
	until(t, "what was taken over is closed", have(most-1))
	idle.Close()
	until(t, "what was idle is closed", have(most-2))
	if status, body, err := ask(t, dial("acme"), "/"); err != nil || body != "served" {
		t.Errorf("when there is room: %d %q %v", status, body, err)
	}
	want := map[triton.Tenant]ConnectionStats{"acme": {Open: most - 1, Refused: 1}, "globex": {Open: most}}
	if diff := cmp.Diff(want, conns.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// Of connections beyond the bound few are open, and not for long, though they ask for nothing.
func TestConnectionsBeyondTheBoundAreFew(t *testing.T) {
	conns := NewConnections(1)
	conns.tell = time.Hour
	dial := boundedServer(t, conns, answer)
	first := dial("acme")
	until(t, "the first is counted", func() bool { return conns.Stats()["acme"].Open == 1 })
	for range told {
		dial("acme")
	}
	until(t, "they are open to be told", func() bool { return conns.Stats()["acme"].Open == 1+told })
	if _, err := dial("acme").Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "certificate") {
		t.Errorf("one more: %v", err)
	}
	want := ConnectionStats{Open: 1 + told, Refused: told + 1}
	if diff := cmp.Diff(want, conns.Stats()["acme"]); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	first.Close()
	until(t, "there is room", func() bool { return conns.Stats()["acme"].Open == told })
	if status, body, err := ask(t, dial("acme"), "/"); err != nil || body != "served" {
		t.Errorf("when there is room: %d %q %v", status, body, err)
	}
}

func TestConnectionsBeyondTheBoundAreClosedSoon(t *testing.T) {
	conns := NewConnections(1)
	conns.tell = 50 * time.Millisecond
	dial := boundedServer(t, conns, answer)
	dial("acme")
	until(t, "it is counted", func() bool { return conns.Stats()["acme"].Open == 1 })
	if _, err := dial("acme").Read(make([]byte, 1)); err == nil {
		t.Error("it has something to read")
	}
	until(t, "it is closed", func() bool { return conns.Stats()["acme"].Open == 1 })
}
