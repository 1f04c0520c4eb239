package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	caLife     = 20 * 365 * 24 * time.Hour
	serverLife = 397 * 24 * time.Hour // what browsers take at most
	// renewBefore: the server's certificate is renewed at a start within this time of its end.
	renewBefore = 60 * 24 * time.Hour
	// backdate allows for clocks of clients that are late.
	backdate = 5 * time.Minute
)

// CA is the instance's own certificate authority. Who holds its directory is every tenant.
type CA struct {
	dir  string
	cert *x509.Certificate
	pem  []byte
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// OpenCA reads the authority below dir, or makes it at its first use: ca.pem, and ca-key.pem of mode 0600.
func OpenCA(dir, instance string, now func() time.Time) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	ca := &CA{dir: dir, now: now}
	certPath, keyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	cert, key, err := readPair(certPath, keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		// A key without certificate is what a kill in between leaves: nothing was signed with it.
		if _, statErr := os.Stat(certPath); statErr == nil {
			return nil, fmt.Errorf("certificate authority: %s has lost its key: put it back, or remove %s and every client certificate: %w", certPath, dir, err)
		}
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		template := &x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "triton " + instance}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
			NotBefore: now().Add(-backdate), NotAfter: now().Add(caLife), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		cert, err = sign(template, template, &key.PublicKey, key)
		if err == nil {
			err = writePair(certPath, keyPath, cert, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	if !cert.IsCA || !cert.PublicKey.(*ecdsa.PublicKey).Equal(&key.PublicKey) {
		return nil, fmt.Errorf("certificate authority: %s and %s do not belong together", certPath, keyPath)
	}
	ca.cert, ca.key, ca.pem = cert, key, encodeCert(cert)
	return ca, nil
}

// PEM is the authority's certificate, as clients need it.
func (ca *CA) PEM() []byte { return slices.Clone(ca.pem) }

// ServerTLS returns what a listener on addresses (host:port) presents; its certificate is made when there is none, when it
// does not name all of them, or when it ends soon. clients: every client must bring a certificate of this authority.
func (ca *CA) ServerTLS(addresses []string, clients bool) (*tls.Config, error) {
	names, ips, err := subjects(addresses)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	certPath, keyPath := filepath.Join(ca.dir, "server.pem"), filepath.Join(ca.dir, "server-key.pem")
	cert, key, err := readPair(certPath, keyPath)
	if err != nil || !ca.serves(cert, key, names, ips) {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("server certificate: %w", err)
		}
		cert, err = sign(&x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "tritond"}, DNSNames: names, IPAddresses: ips,
			NotBefore: ca.now().Add(-backdate), NotAfter: ca.now().Add(serverLife), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}, ca.cert, &key.PublicKey, ca.key)
		if err == nil {
			err = writePair(certPath, keyPath, cert, key)
		}
		if err != nil {
			return nil, fmt.Errorf("server certificate: %w", err)
		}
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12, Time: ca.now,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}},
	}
	if clients {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		cfg.ClientCAs.AddCert(ca.cert)
	}
	return cfg, nil
}

// serves reports whether a stored server certificate is still good for all names.
func (ca *CA) serves(cert *x509.Certificate, key *ecdsa.PrivateKey, names []string, ips []net.IP) bool {
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(&key.PublicKey) || cert.CheckSignatureFrom(ca.cert) != nil || ca.now().Add(renewBefore).After(cert.NotAfter) {
		return false
	}
	for _, n := range names {
		if !slices.Contains(cert.DNSNames, n) {
			return false
		}
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// subjects are the names and addresses clients may use: those listened on, this machine's own for wildcards, its name.
func subjects(addresses []string) (names []string, ips []net.IP, err error) {
	names, ips = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, a := range addresses {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return nil, nil, err
		}
		ip := net.ParseIP(host)
		switch {
		case host == "" || ip != nil && ip.IsUnspecified():
			all, err := net.InterfaceAddrs()
			if err != nil {
				return nil, nil, err
			}
			for _, one := range all {
				if n, ok := one.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
					ips = append(ips, n.IP)
				}
			}
		case ip != nil:
			ips = append(ips, ip)
		default:
			names = append(names, host)
		}
	}
	return names, ips, nil
}

// newSerial has 127 random bits and a first one, so that it is positive and its text has 32 digits.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails: crypto/rand.Read aborts the program instead
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b)
}

func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func readPair(certPath, keyPath string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s holds no ECDSA key", keyPath)
	}
	return pair.Leaf, key, nil
}

// writePair writes the key first, each by rename: a certificate never lies there without its key.
func writePair(certPath, keyPath string, cert *x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	return writeFile(certPath, encodeCert(cert), 0o644)
}

func writeFile(path string, b []byte, mode fs.FileMode) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
