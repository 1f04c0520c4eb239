package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Store keeps bytes that all daemons agree on. Errors have the kinds of errdefs: NotFound, AlreadyExists.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	// List returns what is below prefix, in order of keys.
	List(ctx context.Context, prefix string) (keys []string, values [][]byte, err error)
	Create(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// Config is what an Authority is made of. Store, Now and Log are required.
type Config struct {
	Store Store
	Now   func() time.Time
	Log   *slog.Logger
	// Instance is part of the cookie's name: browsers send cookies to every port of a machine.
	Instance string
	// Recheck is how often a request that lasts is asked again whether its credential is still good; 0: a minute.
	Recheck time.Duration
}

const (
	credentialsPrefix = "/triton/auth/credentials/"
	tenantsPrefix     = "/triton/auth/tenants/"

	defaultRecheck = time.Minute
	// sessionLife is a working day: a page left open over night asks again.
	sessionLife = 12 * time.Hour
	// maxCredentials bounds what logins can fill etcd with.
	maxCredentials = 8192
)

// Authority knows tenants and credentials. Its methods may be called from any goroutine.
type Authority struct {
	cfg    Config
	limit  *limiter
	create sync.Mutex // one counts and adds at a time, so that maxCredentials holds

	mu    sync.Mutex
	codes map[string]code // by their ID
}

// New returns an Authority.
func New(cfg Config) *Authority {
	if cfg.Recheck == 0 {
		cfg.Recheck = defaultRecheck
	}
	return &Authority{cfg: cfg, limit: newLimiter(cfg.Now), codes: map[string]code{}}
}

// Issue stores a new token of a tenant and returns its text, which is nowhere kept.
func (a *Authority) Issue(ctx context.Context, tenant triton.Tenant, role Role, name string, life time.Duration) (string, Credential, error) {
	text, id := newSecret(tokenPrefix)
	c, err := a.add(ctx, Credential{ID: id, Kind: KindToken, Tenant: tenant, Role: role, Name: name}, life)
	if err != nil {
		return "", Credential{}, fmt.Errorf("issue token: %w", err)
	}
	return text, c, nil
}

// maxLife bounds tokens and certificates; a longer one would outlive whoever remembers it.
const maxLife = 5 * 365 * 24 * time.Hour

// add stores c, which lives from now on.
func (a *Authority) add(ctx context.Context, c Credential, life time.Duration) (Credential, error) {
	if life < time.Second || life > maxLife {
		return Credential{}, fmt.Errorf("expires after %s: must be 1s to %s: %w", life, maxLife, errdefs.ErrInvalidArgument)
	}
	if err := c.validate(); err != nil {
		return Credential{}, err
	}
	if err := a.known(ctx, c.Tenant); err != nil {
		return Credential{}, err
	}
	a.create.Lock()
	defer a.create.Unlock()
	all, err := a.sweep(ctx)
	if err != nil {
		return Credential{}, err
	}
	if len(all) >= maxCredentials {
		return Credential{}, fmt.Errorf("there are %d credentials already: revoke some: %w", len(all), errdefs.ErrResourceExhausted)
	}
	c.Created = a.cfg.Now().UTC().Truncate(time.Second)
	c.Expires = c.Created.Add(life)
	b, err := json.Marshal(c)
	if err != nil {
		return Credential{}, err
	}
	return c, a.cfg.Store.Create(ctx, credentialsPrefix+c.ID, b)
}

// sweep removes what has expired and returns the rest.
func (a *Authority) sweep(ctx context.Context) ([]Credential, error) {
	keys, values, err := a.cfg.Store.List(ctx, credentialsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	now, kept := a.cfg.Now(), make([]Credential, 0, len(keys))
	for i, key := range keys {
		c, err := decodeCredential(strings.TrimPrefix(key, credentialsPrefix), values[i])
		if err != nil {
			a.cfg.Log.Error("a stored credential cannot be read and lets nobody in", "err", err)
			continue
		}
		if now.Before(c.Expires) {
			kept = append(kept, c)
			continue
		}
		if err := a.cfg.Store.Delete(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			return nil, fmt.Errorf("remove expired credential: %w", err)
		}
	}
	return kept, nil
}

// Credentials lists those of a tenant that have not expired, newest first.
func (a *Authority) Credentials(ctx context.Context, tenant triton.Tenant) ([]Credential, error) {
	if err := a.known(ctx, tenant); err != nil {
		return nil, err
	}
	all, err := a.sweep(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c Credential) bool { return c.Tenant != tenant })
	slices.SortFunc(all, func(x, y Credential) int { return y.Created.Compare(x.Created) })
	return all, nil
}

// Revoke ends the credential whose ID begins with prefix (at least eight digits), and the sessions made with it.
func (a *Authority) Revoke(ctx context.Context, prefix string) (Credential, error) {
	const least = 8
	if len(prefix) < least || strings.Trim(prefix, "0123456789abcdef") != "" {
		return Credential{}, fmt.Errorf("credential %q: must be %d or more digits of its id: %w", prefix, least, errdefs.ErrInvalidArgument)
	}
	all, err := a.sweep(ctx)
	if err != nil {
		return Credential{}, err
	}
	found := slices.DeleteFunc(slices.Clone(all), func(c Credential) bool { return !strings.HasPrefix(c.ID, prefix) })
	switch len(found) {
	case 0:
		return Credential{}, fmt.Errorf("no credential %s: %w", prefix, errdefs.ErrNotFound)
	case 1:
		return found[0], a.drop(ctx, found[0], all)
	}
	return Credential{}, fmt.Errorf("credential %s is not the only one that begins so: %w", prefix, errdefs.ErrInvalidArgument)
}

// drop removes c first: after it no session of it can be made.
func (a *Authority) drop(ctx context.Context, c Credential, all []Credential) error {
	errs := []error{a.remove(ctx, c.ID)}
	for _, s := range all {
		if s.Parent == c.ID {
			errs = append(errs, a.remove(ctx, s.ID))
		}
	}
	return errors.Join(errs...)
}

func (a *Authority) remove(ctx context.Context, id string) error {
	if err := a.cfg.Store.Delete(ctx, credentialsPrefix+id); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("revoke credential %s: %w", short(id), err)
	}
	return nil
}

// errNoLogin is the same for every reason that a stranger could learn something from.
var errNoLogin = fmt.Errorf("not known, revoked or expired: %w", errdefs.ErrUnauthenticated)

// lookup finds a good credential. The ID is a hash of what was sent, or was signed, so looking it up tells a stranger
// nothing by the time it takes.
func (a *Authority) lookup(ctx context.Context, id string, kind Kind) (Credential, error) {
	b, err := a.cfg.Store.Get(ctx, credentialsPrefix+id)
	if errdefs.IsNotFound(err) {
		return Credential{}, fmt.Errorf("%s: %w", kind, errNoLogin)
	}
	if err != nil {
		return Credential{}, fmt.Errorf("look up %s: %w", kind, err)
	}
	c, err := decodeCredential(id, b)
	if err != nil {
		return Credential{}, err
	}
	if c.Kind != kind || !a.cfg.Now().Before(c.Expires) {
		return Credential{}, fmt.Errorf("%s: %w", kind, errNoLogin)
	}
	if c.Parent != "" {
		if _, err := a.cfg.Store.Get(ctx, credentialsPrefix+c.Parent); err != nil {
			if errdefs.IsNotFound(err) {
				err = errNoLogin
			}
			return Credential{}, fmt.Errorf("%s: %w", kind, err)
		}
	}
	if err := a.known(ctx, c.Tenant); err != nil {
		if errdefs.IsNotFound(err) {
			err = errNoLogin
		}
		return Credential{}, fmt.Errorf("%s: %w", kind, err)
	}
	return c, nil
}

func (c Credential) caller() Caller {
	return Caller{Tenant: c.Tenant, Operator: c.Role == RoleOperator, Name: c.Name, Cookie: c.Kind == KindSession, id: string(c.Kind) + ":" + c.ID}
}

// Valid reports whether what c came by is still good, for sockets that outlive it. An error of the store is not a no:
// it is returned with ok true, so that a busy etcd ends no session.
func (a *Authority) Valid(ctx context.Context, c Caller) (ok bool, err error) {
	if c.id == "" {
		return true, nil
	}
	kind, id, _ := strings.Cut(c.id, ":")
	found, err := a.lookup(ctx, id, Kind(kind))
	if errdefs.IsUnauthorized(err) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	return found.Role == c.role(), nil
}
