package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Kind says how a credential is shown.
type Kind string

// The kinds: a bearer token; the cookie of a login; a client certificate.
const (
	KindToken       Kind = "token"
	KindSession     Kind = "session"
	KindCertificate Kind = "certificate"
)

// Credential is what is stored of one. No secret is: ID is the SHA-256 of a token's or cookie's text, or the serial number
// of a certificate, in lower-case hexadecimal digits. One that is not stored is not accepted, whatever its signature says.
type Credential struct {
	ID      string        `json:"id"`
	Kind    Kind          `json:"kind"`
	Tenant  triton.Tenant `json:"tenant"`
	Role    Role          `json:"role"`
	Name    string        `json:"name"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires"`
	// Parent is the credential that a session was made with: it ends with it.
	Parent string `json:"parent,omitempty"`
}

// maxName bounds a credential's name, in bytes.
const maxName = 64

// validateName allows what can be printed in one column: letters, digits and .-_@ of ASCII.
func validateName(s string) error {
	if s == "" || len(s) > maxName {
		return fmt.Errorf("name %q: must have 1 to %d characters", s, maxName)
	}
	for _, c := range s {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_@", c) {
			continue
		}
		return fmt.Errorf("name %q: only letters, digits and .-_@ are allowed", s)
	}
	return nil
}

// validate reports all mistakes in what somebody asks a credential to be.
func (c Credential) validate() error {
	errs := []error{c.Tenant.Validate(), c.Role.Validate(), validateName(c.Name)}
	if c.Role == RoleOperator && c.Tenant != triton.DefaultTenant {
		errs = append(errs, fmt.Errorf("role %s: only the tenant %q has operators", c.Role, triton.DefaultTenant))
	}
	if c.Role == RoleTenant && c.Tenant == triton.DefaultTenant {
		errs = append(errs, fmt.Errorf("role %s: the tenant %q has operators only: add another tenant", c.Role, c.Tenant))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// decodeCredential reads what is stored below id.
func decodeCredential(id string, b []byte) (Credential, error) {
	var c Credential
	if err := json.Unmarshal(b, &c); err != nil {
		return Credential{}, fmt.Errorf("decode credential %s: %w", short(id), err)
	}
	if c.ID != id {
		return Credential{}, fmt.Errorf("decode credential %s: it says that it is another one", short(id))
	}
	if err := c.validate(); err != nil {
		return Credential{}, fmt.Errorf("decode credential %s: %w", short(id), err)
	}
	return c, nil
}

// idDigits are enough of an ID to name it in messages and commands.
const idDigits = 12

func short(id string) string { return id[:min(len(id), idDigits)] }

// secretBytes is the entropy of a secret: not to be guessed, so that its plain SHA-256 can be stored.
const secretBytes = 32

// Secrets begin with what they are, so that one that leaks is recognised by who finds it.
const (
	tokenPrefix   = "triton_t_"
	sessionPrefix = "triton_s_"
	codePrefix    = "triton_c_"
)

// newSecret makes one and its ID.
func newSecret(prefix string) (text, id string) {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails: crypto/rand.Read aborts the program instead
	text = prefix + base64.RawURLEncoding.EncodeToString(b)
	return text, secretID(text)
}

func secretID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// parseSecret checks the form of what a client sent and returns its ID. It never puts the text into an error.
func parseSecret(prefix, text string) (id string, err error) {
	body, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return "", fmt.Errorf("it does not begin with %s", prefix)
	}
	if len(body) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return "", fmt.Errorf("it has %d characters, not %d: not copied whole", len(text), len(prefix)+base64.RawURLEncoding.EncodedLen(secretBytes))
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(body); err != nil {
		return "", errors.New("it has characters that no token has")
	}
	return secretID(text), nil
}
