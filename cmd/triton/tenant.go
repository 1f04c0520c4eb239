package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

const tenantUsage = `triton tenant add NAME [--out DIR] [--role tenant|operator] [--name WHO] [--expires DURATION]
  triton tenant ls [NAME]
  triton tenant token NAME [--role tenant|operator] [--name WHO] [--expires DURATION]
  triton tenant revoke ID
  triton tenant rm NAME`

// defaultExpires is a year: what a person forgets about should end.
const defaultExpires = 365 * 24 * time.Hour

// issue is what add and token are told.
type issue struct {
	tenant, out, role, who string
	expires                time.Duration
}

// parseIssue takes the name first or last, as people type it.
func parseIssue(verb string, args []string) (issue, error) {
	var in issue
	fs := newFlags("triton tenant " + verb)
	if verb == "add" {
		fs.StringVar(&in.out, "out", "", "")
	}
	fs.StringVar(&in.role, "role", "tenant", "")
	fs.StringVar(&in.who, "name", "", "")
	fs.DurationVar(&in.expires, "expires", defaultExpires, "")
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		in.tenant, args = args[0], args[1:]
	}
	if err := fs.Parse(args); err != nil {
		return in, usageError(fmt.Sprintf("tenant %s: %v", verb, err))
	}
	rest := fs.Args()
	if in.tenant == "" && len(rest) > 0 {
		in.tenant, rest = rest[0], rest[1:]
	}
	var errs []error
	if in.tenant == "" {
		errs = append(errs, fmt.Errorf("tenant %s: the tenant's name is missing", verb))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("tenant %s: unexpected argument %q", verb, rest[0]))
	}
	if in.role != "tenant" && in.role != "operator" {
		errs = append(errs, fmt.Errorf("--role %q: must be tenant or operator", in.role))
	}
	if in.expires < time.Second {
		errs = append(errs, fmt.Errorf("--expires %s: must be 1s or longer, such as 720h", in.expires))
	}
	if err := errors.Join(errs...); err != nil {
		return in, usageError(err.Error())
	}
	if in.who == "" {
		in.who = in.tenant
	}
	if in.out == "" {
		in.out = "triton-" + in.tenant
	}
	return in, nil
}

func tenantCommand(ctx context.Context, c *client, args []string, out io.Writer) error {
	if len(args) == 0 {
		return usageError("tenant: no verb:\n  " + tenantUsage)
	}
	verb, args := args[0], args[1:]
	switch {
	case verb == "add" || verb == "token":
		in, err := parseIssue(verb, args)
		if err != nil {
			return err
		}
		if verb == "token" {
			return issueToken(ctx, c, in, out)
		}
		return addTenant(ctx, c, in, out)
	case verb == "ls" && len(args) == 0:
		return listTenants(ctx, c, out)
	case verb == "ls" && len(args) == 1:
		return listCredentials(ctx, c, args[0], out)
	case verb == "rm" && len(args) == 1:
		return c.do(ctx, http.MethodDelete, wire.TenantPath(args[0]), nil, nil)
	case verb == "revoke" && len(args) == 1:
		var gone wire.Credential
		if err := c.do(ctx, http.MethodDelete, wire.CredentialsPath+"/"+args[0], nil, &gone); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s %s of %s is revoked\n", gone.Kind, gone.Name, gone.Tenant)
		return nil
	}
	return usageError(fmt.Sprintf("tenant: unknown verb or wrong number of arguments: %q:\n  %s", verb, tenantUsage))
}

// addTenant makes the tenant unless it exists, and a directory that DOCKER_CERT_PATH takes. The key never leaves this machine.
func addTenant(ctx context.Context, c *client, in issue, out io.Writer) error {
	if _, err := os.Lstat(in.out); err == nil {
		return fmt.Errorf("--out %s: exists already", in.out)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := ensureTenant(ctx, c, in.tenant); err != nil {
		return err
	}
	var got wire.Issued
	if err := c.do(ctx, http.MethodPost, wire.TenantPath(in.tenant)+"/certificates", wire.Request{
		Name: in.who, Role: in.role, Seconds: int64(in.expires / time.Second),
		PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}, &got); err != nil {
		return err
	}
	if err := os.MkdirAll(in.out, 0o700); err != nil {
		return err
	}
	for name, b := range map[string][]byte{
		"ca.pem": []byte(got.CA), "cert.pem": []byte(got.Certificate), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(in.out, name), b, 0o600); err != nil {
			return err
		}
	}
	abs, err := filepath.Abs(in.out)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "certificate %.12s of tenant %s, role %s, until %s\nexport DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=%s\n",
		got.Credential.ID, in.tenant, in.role, got.Credential.Expires.Format(time.DateOnly), abs)
	return nil
}

// ensureTenant adds one that is not there: `add` also gives an existing tenant another certificate.
func ensureTenant(ctx context.Context, c *client, name string) error {
	var all []wire.Tenant
	if err := c.get(ctx, wire.TenantsPath, &all); err != nil {
		return err
	}
	for _, t := range all {
		if t.Name == name {
			return nil
		}
	}
	return c.do(ctx, http.MethodPost, wire.TenantsPath, wire.Tenant{Name: name}, nil)
}

func issueToken(ctx context.Context, c *client, in issue, out io.Writer) error {
	var got wire.Issued
	if err := c.do(ctx, http.MethodPost, wire.TenantPath(in.tenant)+"/tokens",
		wire.Request{Name: in.who, Role: in.role, Seconds: int64(in.expires / time.Second)}, &got); err != nil {
		return err
	}
	fmt.Fprintln(out, got.Token)
	return nil
}

func listTenants(ctx context.Context, c *client, out io.Writer) error {
	var all []wire.Tenant
	if err := c.get(ctx, wire.TenantsPath, &all); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tCREATED")
	for _, t := range all {
		created := "-"
		if !t.Created.IsZero() {
			created = t.Created.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\n", t.Name, created)
	}
	return w.Flush()
}

func listCredentials(ctx context.Context, c *client, tenant string, out io.Writer) error {
	var all []wire.Credential
	if err := c.get(ctx, wire.TenantPath(tenant)+"/credentials", &all); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tROLE\tNAME\tEXPIRES")
	for _, c := range all {
		fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%s\n", c.ID, c.Kind, c.Role, c.Name, c.Expires.Format(time.RFC3339))
	}
	return w.Flush()
}
