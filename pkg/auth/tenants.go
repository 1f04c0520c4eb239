package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Tenant is one as stored. The tenant default always exists and is not stored.
type Tenant struct {
	Name    triton.Tenant `json:"name"`
	Created time.Time     `json:"created"`
}

// AddTenant makes a tenant; one that exists is AlreadyExists.
func (a *Authority) AddTenant(ctx context.Context, name triton.Tenant) (Tenant, error) {
	if err := name.Validate(); err != nil {
		return Tenant{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	t := Tenant{Name: name, Created: a.cfg.Now().UTC().Truncate(time.Second)}
	b, err := json.Marshal(t)
	if err != nil {
		return Tenant{}, err
	}
	if name != triton.DefaultTenant {
		err = a.cfg.Store.Create(ctx, tenantsPrefix+string(name), b)
	} else {
		err = errdefs.ErrAlreadyExists
	}
	if errdefs.IsAlreadyExists(err) {
		return Tenant{}, fmt.Errorf("tenant %s exists: %w", name, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("add tenant: %w", err)
	}
	return t, nil
}

// Tenants lists all, the default one first.
func (a *Authority) Tenants(ctx context.Context) ([]Tenant, error) {
	keys, values, err := a.cfg.Store.List(ctx, tenantsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	out := []Tenant{{Name: triton.DefaultTenant}}
	for i, key := range keys {
		var t Tenant
		if err := json.Unmarshal(values[i], &t); err != nil || string(t.Name) != strings.TrimPrefix(key, tenantsPrefix) {
			return nil, fmt.Errorf("stored tenant %s is damaged: %w", key, errdefs.ErrDataLoss)
		}
		out = append(out, t)
	}
	return out, nil
}

// RemoveTenant ends a tenant's credentials and then the tenant. uses names what it still has, which keeps it
// (FailedPrecondition); it is asked after the tenant's credentials have ended, so that nothing new comes meanwhile.
func (a *Authority) RemoveTenant(ctx context.Context, name triton.Tenant, uses func(context.Context, triton.Tenant) ([]string, error)) error {
	if name == triton.DefaultTenant {
		return fmt.Errorf("tenant %s cannot be removed: %w", name, errdefs.ErrFailedPrecondition)
	}
	if err := a.known(ctx, name); err != nil {
		return err
	}
	if err := inUse(ctx, name, uses); err != nil {
		return err
	}
	all, err := a.sweep(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Tenant == name {
			if err := a.remove(ctx, c.ID); err != nil {
				return err
			}
		}
	}
	if err := inUse(ctx, name, uses); err != nil {
		return err
	}
	if err := a.cfg.Store.Delete(ctx, tenantsPrefix+string(name)); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove tenant: %w", err)
	}
	return nil
}

func inUse(ctx context.Context, name triton.Tenant, uses func(context.Context, triton.Tenant) ([]string, error)) error {
	left, err := uses(ctx, name)
	if err != nil {
		return fmt.Errorf("look for objects of tenant %s: %w", name, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("tenant %s still has %s: remove them first: %w", name, strings.Join(left, ", "), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// known is NotFound for a tenant that does not exist.
func (a *Authority) known(ctx context.Context, name triton.Tenant) error {
	if name == triton.DefaultTenant {
		return nil
	}
	if err := name.Validate(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	_, err := a.cfg.Store.Get(ctx, tenantsPrefix+string(name))
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("no tenant %s: %w", name, errdefs.ErrNotFound)
	}
	return err
}
