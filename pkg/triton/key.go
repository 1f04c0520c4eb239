package triton

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// Tenant names the owner of objects. Every key carries it, so an object of another tenant cannot be looked up by mistake.
type Tenant string

// DefaultTenant is who an operator on the Unix socket acts for.
const DefaultTenant Tenant = "default"

// maxTenant bounds a tenant's name: it becomes part of etcd keys, containerd namespaces and directory names.
const maxTenant = 40

// Validate reports whether t can be part of a path, an etcd key and a containerd namespace:
// lower-case letters, digits and inner dashes, 1 to 40 characters.
func (t Tenant) Validate() error {
	if t == "" || len(t) > maxTenant {
		return fmt.Errorf("tenant %q: must have 1 to %d characters", string(t), maxTenant)
	}
	for i, c := range t {
		inner := i > 0 && i < len(t)-1
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && inner {
			continue
		}
		return fmt.Errorf("tenant %q: only a-z, 0-9 and inner dashes are allowed", string(t))
	}
	return nil
}

// ContainerKey identifies one container. ID has 64 lower-case hexadecimal digits, as docker's ids have.
type ContainerKey struct {
	Tenant Tenant `json:"tenant"`
	ID     string `json:"id"`
}

// String gives tenant/short-id, for logs.
func (k ContainerKey) String() string { return string(k.Tenant) + "/" + ShortID(k.ID) }

// idDigits is the length of docker's container and exec ids in hexadecimal digits.
const idDigits = 64

// NewID returns 64 random hexadecimal digits. Like docker's, the first twelve are never all decimal,
// so that a short id used as a host name is not taken for a number.
func NewID() string {
	b := make([]byte, idDigits/2)
	for {
		rand.Read(b) // never fails: crypto/rand.Read aborts the program instead
		id := hex.EncodeToString(b)
		if strings.ContainsAny(ShortID(id), "abcdef") {
			return id
		}
	}
}

// shortDigits is how many digits docker shows of an id.
const shortDigits = 12

// ShortID returns the first twelve digits of id, or all of it where it is shorter.
func ShortID(id string) string {
	if len(id) > shortDigits {
		return id[:shortDigits]
	}
	return id
}

// ValidID reports whether id has the form NewID gives.
func ValidID(id string) bool {
	if len(id) != idDigits {
		return false
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
