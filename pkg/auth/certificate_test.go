package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

func newKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// client returns a client with a certificate of ca for tenant, and its credential.
func (w *world) client(t *testing.T, ca *CA, tenant triton.Tenant) (*http.Client, Credential) {
	t.Helper()
	key, pub := newKey(t)
	b, c, err := w.Sign(t.Context(), ca, pub, tenant, RoleTenant, "laptop", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, c
}

func get(t *testing.T, c *http.Client, url string) (int, string, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestCertificateIsItsTenant(t *testing.T) {
	w := newWorld(t)
	w.tenant(t, "alice")
	w.tenant(t, "bob")
	ca, err := OpenCA(t.TempDir(), "main", w.clock)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(w.Certificates(echo))
	if srv.TLS, err = ca.ServerTLS([]string{"127.0.0.1:0"}, true); err != nil {
		t.Fatal(err)
	}
	srv.StartTLS()
	defer srv.Close()
	alice, cred := w.client(t, ca, "alice")
	bob, _ := w.client(t, ca, "bob")
	for c, name := range map[*http.Client]string{alice: "alice", bob: "bob"} {
		if status, body, err := get(t, c, srv.URL); err != nil || status != 200 || body != name+" operator=false true" {
			t.Errorf("%s: got %d %s %v", name, status, body, err)
		}
	}
	if _, err := w.Revoke(t.Context(), cred.ID); err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t, alice, srv.URL); err != nil || status != 401 || !strings.Contains(body, "revoked") {
		t.Errorf("revoked: got %d %s %v", status, body, err)
	}
	other, err := OpenCA(t.TempDir(), "main", w.clock)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := w.client(t, other, "bob")
	stranger.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(ca.cert)
	if status, _, err := get(t, stranger, srv.URL); err == nil {
		t.Errorf("a certificate of another authority got %d", status)
	}
	none := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: bob.Transport.(*http.Transport).TLSClientConfig.RootCAs}}}
	if status, _, err := get(t, none, srv.URL); err == nil {
		t.Errorf("no certificate got %d", status)
	}
	w.pass(2 * time.Hour)
	bob.CloseIdleConnections()
	if status, _, err := get(t, bob, srv.URL); err == nil {
		t.Errorf("an expired certificate got %d", status)
	}
}

func TestAuthorityIsMadeOnceAndItsKeyIsSecret(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "tls"), time.Now()
	clock := func() time.Time { return now }
	open := func() *CA {
		t.Helper()
		ca, err := OpenCA(dir, "main", clock)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	serial := func(ca *CA, addr string) string {
		t.Helper()
		c, err := ca.ServerTLS([]string{addr}, true)
		if err != nil {
			t.Fatal(err)
		}
		return serialID(c.Certificates[0].Leaf.SerialNumber)
	}
	ca := open()
	first := serial(ca, "127.0.0.1:1")
	for _, name := range []string{"ca-key.pem", "server-key.pem"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	if again := open(); string(again.PEM()) != string(ca.PEM()) || serial(again, "127.0.0.1:1") != first {
		t.Error("a second start made other certificates")
	}
	named := serial(ca, "192.0.2.7:1")
	if named == first {
		t.Error("the certificate does not name the new address")
	}
	now = now.Add(serverLife - renewBefore + time.Hour)
	if serial(open(), "192.0.2.7:1") == named {
		t.Error("the certificate was not renewed before its end")
	}
	if err := os.Remove(filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCA(dir, "main", clock); err == nil || !strings.Contains(err.Error(), "lost its key") {
		t.Errorf("without its key: got %v", err)
	}
}

func TestSignRefusesOtherKeys(t *testing.T) {
	w := newWorld(t)
	ca, err := OpenCA(t.TempDir(), "main", w.clock)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []string{"", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, _, err := w.Sign(t.Context(), ca, []byte(pub), "default", RoleOperator, "x", time.Hour); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %v", pub, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("laptop", "alice", "tenant", "")
	f.Add("x", "default", "operator", "")
	f.Add("x", "alice", "operator", "")
	f.Add("x", "../etc", "tenant", "bob")
	f.Fuzz(func(t *testing.T, cn, o, ou, second string) {
		s := pkix.Name{CommonName: cn, Organization: []string{o}, OrganizationalUnit: []string{ou}}
		if second != "" {
			s.Organization = append(s.Organization, second)
		}
		tenant, role, err := parseSubject(s)
		if err == nil && (second != "" || tenant.Validate() != nil || role.Validate() != nil || role == RoleOperator && tenant != triton.DefaultTenant) {
			t.Fatalf("took %v as %s %s", s, tenant, role)
		}
	})
}
