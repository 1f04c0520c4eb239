package auth

import (
	"context"
	"fmt"

	"github.com/tritond/triton/pkg/triton"
)

// Caller is who sent a request. Two are equal when they came by the same credential and act for the same tenant.
type Caller struct {
	// Tenant is whose objects the request is about.
	Tenant triton.Tenant
	// Operator may do what gives the host away, and may act for every tenant.
	Operator bool
	// Name is for people: that of the token or certificate, or how the caller came.
	Name string
	// Cookie: the login came by itself with the request, as browsers send it.
	Cookie bool

	id string // of the Credential; "" for who came by a socket that is proof enough
}

// role is the caller's as credentials have it.
func (c Caller) role() Role {
	if c.Operator {
		return RoleOperator
	}
	return RoleTenant
}

type callerKey struct{}

// WithCaller returns ctx with c in it.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// FromContext returns the caller of a request; false: none of the middleware of this package was passed.
func FromContext(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Role is what a credential lets its holder be.
type Role string

// The roles. An operator's credential belongs to the tenant default.
const (
	RoleOperator Role = "operator"
	RoleTenant   Role = "tenant"
)

// Validate refuses everything but the two roles.
func (r Role) Validate() error {
	if r != RoleOperator && r != RoleTenant {
		return fmt.Errorf("role %q: must be %s or %s", string(r), RoleTenant, RoleOperator)
	}
	return nil
}
