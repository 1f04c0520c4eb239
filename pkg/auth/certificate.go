package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Sign makes a client certificate for a public key (PEM, PKIX, ECDSA P-256): CN is the name, O the tenant, OU the role. It
// is stored first: one that is not stored lets nobody in.
func (a *Authority) Sign(
	ctx context.Context, ca *CA, publicKey []byte, tenant triton.Tenant, role Role, name string, life time.Duration,
) ([]byte, Credential, error) {
	pub, err := parsePublicKey(publicKey)
	if err != nil {
		return nil, Credential{}, fmt.Errorf("sign certificate: public key: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	serial := newSerial()
	c, err := a.add(ctx, Credential{ID: serialID(serial), Kind: KindCertificate, Tenant: tenant, Role: role, Name: name}, life)
	if err != nil {
		return nil, Credential{}, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber: serial, NotBefore: c.Created.Add(-backdate), NotAfter: c.Expires, KeyUsage: x509.KeyUsageDigitalSignature,
		Subject:     pkix.Name{CommonName: name, Organization: []string{string(tenant)}, OrganizationalUnit: []string{string(role)}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.cert, pub, ca.key)
	if err != nil {
		return nil, Credential{}, errors.Join(err, a.remove(ctx, c.ID))
	}
	return encodeCert(cert), c, nil
}

func serialID(serial *big.Int) string { return fmt.Sprintf("%032x", serial) }

func parsePublicKey(b []byte) (*ecdsa.PublicKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		return nil, errors.New("must be one PEM block PUBLIC KEY")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("must be ECDSA of the curve P-256")
	}
	return pub, nil
}

// parseSubject reads tenant and role from a verified certificate's subject.
func parseSubject(s pkix.Name) (tenant triton.Tenant, role Role, err error) {
	if len(s.Organization) != 1 || len(s.OrganizationalUnit) != 1 {
		return "", "", fmt.Errorf("its subject must have one O (the tenant) and one OU (the role), it has %d and %d", len(s.Organization), len(s.OrganizationalUnit))
	}
	c := Credential{Tenant: triton.Tenant(s.Organization[0]), Role: Role(s.OrganizationalUnit[0]), Name: s.CommonName}
	if err := c.validate(); err != nil {
		return "", "", err
	}
	return c.Tenant, c.Role, nil
}

// Holder tells whose a certificate is that tls.Config has verified, before there is a request. Whether it still is somebody's is not known then.
func Holder(cert *x509.Certificate) (tenant triton.Tenant, operator bool, err error) {
	tenant, role, err := parseSubject(cert.Subject)
	if err != nil {
		return "", false, fmt.Errorf("certificate: %w: %w", err, errdefs.ErrUnauthenticated)
	}
	return tenant, role == RoleOperator, nil
}

// Certificates passes requests on connections whose client brought a certificate that tls.Config has verified.
func (a *Authority) Certificates(next http.Handler) http.Handler {
	return a.serve(next, a.byCertificate)
}

func (a *Authority) byCertificate(r *http.Request) (Caller, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Caller{}, fmt.Errorf("client certificate needed: %w", errdefs.ErrUnauthenticated)
	}
	leaf := r.TLS.VerifiedChains[0][0]
	tenant, operator, err := Holder(leaf)
	if err != nil {
		return Caller{}, err
	}
	c, err := a.lookup(r.Context(), serialID(leaf.SerialNumber), KindCertificate)
	if err != nil {
		return Caller{}, err
	}
	if c.Tenant != tenant || (c.Role == RoleOperator) != operator {
		return Caller{}, fmt.Errorf("certificate: it is not the one that was issued: %w", errdefs.ErrUnauthenticated)
	}
	// Browsers send a certificate that they were given as they send cookies.
	return c.caller(), sameOrigin(r, false)
}
