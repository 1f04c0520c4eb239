package wire

import (
	"net/url"
	"time"
)

// TenantsPath lists tenants (GET), adds one (POST a Tenant) and is where each is (DELETE TenantsPath/NAME).
const TenantsPath = Prefix + "tenants"

// CredentialsPath is where credentials are revoked (DELETE CredentialsPath/ID).
const CredentialsPath = Prefix + "credentials"

// TenantPath is one tenant's; below it are /credentials (GET), /tokens and /certificates (POST a Request).
func TenantPath(name string) string { return TenantsPath + "/" + url.PathEscape(name) }

// Tenant is one.
type Tenant struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created,omitzero"`
}

// Request asks for a token or a certificate.
type Request struct {
	Name string `json:"name"`
	Role string `json:"role"`
	// Seconds until it expires.
	Seconds int64 `json:"seconds"`
	// PublicKey is the key of a certificate: PEM, PKIX, ECDSA P-256. The private one stays with the client.
	PublicKey string `json:"public_key,omitempty"`
}

// Issued answers a Request.
type Issued struct {
	Credential Credential `json:"credential"`
	// Token is shown this once.
	Token string `json:"token,omitempty"`
	// Certificate and CA are PEM.
	Certificate string `json:"certificate,omitempty"`
	CA          string `json:"ca,omitempty"`
}

// Credential is what is known of one; never its secret.
type Credential struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Tenant  string    `json:"tenant"`
	Role    string    `json:"role"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}
