package tritonapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// Access keeps tenants and their credentials; pkg/auth's Authority does.
type Access interface {
	AddTenant(ctx context.Context, name triton.Tenant) (auth.Tenant, error)
	Tenants(ctx context.Context) ([]auth.Tenant, error)
	RemoveTenant(ctx context.Context, name triton.Tenant, uses func(context.Context, triton.Tenant) ([]string, error)) error
	Credentials(ctx context.Context, tenant triton.Tenant) ([]auth.Credential, error)
	Issue(ctx context.Context, tenant triton.Tenant, role auth.Role, name string, life time.Duration) (string, auth.Credential, error)
	Revoke(ctx context.Context, prefix string) (auth.Credential, error)
}

// Signer makes client certificates of the instance's authority, whose own is the second result, both as PEM.
type Signer func(ctx context.Context, publicKey []byte, tenant triton.Tenant, role auth.Role, name string, life time.Duration) (
	certificate, ca []byte, c auth.Credential, err error)

// tenantRoutes are the operator's.
func tenantRoutes() []route {
	one := wire.TenantsPath + "/{tenant}"
	return []route{
		{"GET " + wire.TenantsPath, forOperator, (*API).listTenants},
		{"POST " + wire.TenantsPath, forOperator, (*API).addTenant},
		{"DELETE " + one, forOperator, (*API).removeTenant},
		{"GET " + one + "/credentials", forOperator, (*API).listCredentials},
		{"POST " + one + "/tokens", forOperator, (*API).issueToken},
		{"POST " + one + "/certificates", forOperator, (*API).signCertificate},
		{"DELETE " + wire.CredentialsPath + "/{id}", forOperator, (*API).revoke},
	}
}

// maxRequest bounds a body, in bytes.
const maxRequest = 16 << 10

// decode reads a body; false: it was refused.
func (a *API) decode(w http.ResponseWriter, r *http.Request, v any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		a.refuse(w, http.StatusBadRequest, "body: "+err.Error())
		return false
	}
	return true
}

func (a *API) listTenants(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	all, err := a.cfg.Access.Tenants(r.Context())
	if err != nil {
		a.fail(w, err)
		return
	}
	out := make([]wire.Tenant, len(all))
	for i, t := range all {
		out[i] = wire.Tenant{Name: string(t.Name), Created: t.Created}
	}
	a.reply(w, out)
}

func (a *API) addTenant(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	var in wire.Tenant
	if !a.decode(w, r, &in) {
		return
	}
	t, err := a.cfg.Access.AddTenant(r.Context(), triton.Tenant(in.Name))
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.Tenant{Name: string(t.Name), Created: t.Created})
}

func (a *API) removeTenant(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	if err := a.cfg.Access.RemoveTenant(r.Context(), triton.Tenant(r.PathValue("tenant")), a.cfg.Uses); err != nil {
		a.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) listCredentials(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	all, err := a.cfg.Access.Credentials(r.Context(), triton.Tenant(r.PathValue("tenant")))
	if err != nil {
		a.fail(w, err)
		return
	}
	out := make([]wire.Credential, len(all))
	for i, c := range all {
		out[i] = credentialOf(c)
	}
	a.reply(w, out)
}

// asked reads what both kinds of credentials are asked for with; false: it was refused.
func (a *API) asked(w http.ResponseWriter, r *http.Request) (in wire.Request, life time.Duration, ok bool) {
	if !a.decode(w, r, &in) {
		return in, 0, false
	}
	const most = int64(1<<63-1) / int64(time.Second)
	if in.Seconds <= 0 || in.Seconds > most {
		a.fail(w, fmt.Errorf("seconds %d: must be 1 to %d: %w", in.Seconds, most, errdefs.ErrInvalidArgument))
		return in, 0, false
	}
	return in, time.Duration(in.Seconds) * time.Second, true
}

func (a *API) issueToken(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	in, life, ok := a.asked(w, r)
	if !ok {
		return
	}
	if in.PublicKey != "" {
		a.refuse(w, http.StatusBadRequest, "public_key: a token has no key")
		return
	}
	text, c, err := a.cfg.Access.Issue(r.Context(), triton.Tenant(r.PathValue("tenant")), auth.Role(in.Role), in.Name, life)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.Issued{Credential: credentialOf(c), Token: text})
}

func (a *API) signCertificate(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	in, life, ok := a.asked(w, r)
	if !ok {
		return
	}
	cert, ca, c, err := a.cfg.Sign(r.Context(), []byte(in.PublicKey), triton.Tenant(r.PathValue("tenant")), auth.Role(in.Role), in.Name, life)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, wire.Issued{Credential: credentialOf(c), Certificate: string(cert), CA: string(ca)})
}

func (a *API) revoke(w http.ResponseWriter, r *http.Request, _ auth.Caller) {
	c, err := a.cfg.Access.Revoke(r.Context(), r.PathValue("id"))
	if err != nil {
		a.fail(w, err)
		return
	}
	a.reply(w, credentialOf(c))
}

func credentialOf(c auth.Credential) wire.Credential {
	return wire.Credential{
		ID: c.ID, Kind: string(c.Kind), Tenant: string(c.Tenant), Role: string(c.Role), Name: c.Name, Created: c.Created, Expires: c.Expires,
	}
}
