package tritonapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	pprof "github.com/google/pprof/profile"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

const acmesID, acmesName, acmesDump = "5ecfe7a0c0ffee", "acmes-web", "d0c5acmes"

// oneContainer is a node with a container of acme's.
type oneContainer struct{}

func (oneContainer) Observe(_ context.Context, tenant triton.Tenant, ref string) (node.Observed, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Observed{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return node.Observed{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) Placement(_ context.Context, tenant triton.Tenant, ref string) (node.Placed, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Placed{Decision: &sched.Decision{Image: acmesName, Node: "here"}}, nil
	}
	return node.Placed{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) LiveProcess(_ context.Context, tenant triton.Tenant, ref string, _ int) (coredump.Subject, int, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return coredump.Subject{Name: acmesName}, 4711, nil
	}
	return coredump.Subject{}, 0, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) Delays(_ context.Context, tenant triton.Tenant, ref string, _ bool) (node.Delayed, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Delayed{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return node.Delayed{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) Disks(_ context.Context, tenant triton.Tenant, ref string) (string, []triton.Disk, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return acmesName, []triton.Disk{{Name: "vda", Write: true, Bytes: 512}}, nil
	}
	return "", nil, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) AskedNames(_ context.Context, tenant triton.Tenant, ref string) (string, triton.NameService, triton.AskedNames, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return acmesName, triton.NameService{Asked: 1}, triton.AskedNames{Names: []triton.AskedName{{Name: "db.acme.", Type: "A", Asked: 1}}}, nil
	}
	return "", triton.NameService{}, triton.AskedNames{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) NetworkHealth(_ context.Context, tenant triton.Tenant, ref string) (string, triton.NetworkHealth, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return acmesName, triton.NetworkHealth{ConnectFailures: map[string]uint64{"refused": 2, "timeout": 0}, ResetsSent: 7}, nil
	}
	return "", triton.NetworkHealth{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) Recorder(_ context.Context, tenant triton.Tenant, ref string) (node.Recorded, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Recorded{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return node.Recorded{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) Ask(_ context.Context, tenant triton.Tenant, q *question.Question, started func(), each func(question.Answer) error) error {
	if tenant == "busy" {
		return fmt.Errorf("too many: %w", errdefs.ErrResourceExhausted)
	}
	started()
	if tenant != "acme" {
		return nil
	}
	row := question.Row{Key: map[string]string{"container": acmesName}, Counted: question.Counted{Count: uint64(len(q.Leaves))}}
	return each(question.Answer{Rows: []question.Row{row}, Lost: 3})
}

func (oneContainer) Trace(_ context.Context, tenant triton.Tenant, ref string, f triton.TraceFilter, started func(), each func([]triton.TraceEvent) error) error {
	if tenant != "acme" || ref != acmesName && !strings.HasPrefix(acmesID, ref) {
		return fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
	}
	started()
	return each([]triton.TraceEvent{{TracedCall: &triton.TracedCall{Comm: acmesName, Call: triton.Call{Name: "openat", Error: "ENOENT", Args: [6]uint64{uint64(f.Slower)}}}}, {Lost: 3}})
}

func (oneContainer) Talks(_ context.Context, tenant triton.Tenant, ref string, _ bool) (node.Talks, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Talks{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return node.Talks{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (oneContainer) ServiceMap(tenant triton.Tenant, operator, all bool) (node.ServiceMap, error) {
	if tenant != "acme" && (!operator || !all) {
		return node.ServiceMap{}, nil
	}
	key := triton.ContainerKey{Tenant: "acme", ID: acmesID}
	self := node.MapPoint{Kind: node.RemoteContainer, Key: key}
	return node.ServiceMap{Names: map[triton.ContainerKey]string{key: acmesName}, Edges: []node.MapEdge{{From: self, To: self}}}, nil
}

func (oneContainer) AllDelays() ([]node.Delayed, error) {
	return []node.Delayed{{Key: triton.ContainerKey{Tenant: "acme", ID: acmesID}, Name: acmesName}}, nil
}

func (oneContainer) Watching(_ context.Context, tenant triton.Tenant, ref string) (node.Watched, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return node.Watched{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return node.Watched{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

func (o oneContainer) SetWatching(ctx context.Context, tenant triton.Tenant, ref string, _ probes.Level, _ bool) (node.Watched, error) {
	return o.Watching(ctx, tenant, ref)
}

func (oneContainer) ProfileSubject(_ context.Context, tenant triton.Tenant, ref string) (profile.Subject, error) {
	if tenant == "acme" && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return profile.Subject{Key: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}, nil
	}
	return profile.Subject{}, fmt.Errorf("no such container: %s: %w", ref, errdefs.ErrNotFound)
}

// oneProfile is a profile of any container.
func oneProfile(_ context.Context, sub profile.Subject, _ triton.StackKind, _ time.Duration) (*profile.Profile, error) {
	return &profile.Profile{Pprof: &pprof.Profile{}, Summary: profile.Summary{Name: sub.Name}}, nil
}

// oneDump is a store with a dump of acme's container.
type oneDump struct{}

func (oneDump) record() *coredump.Record {
	return &coredump.Record{ID: acmesDump, Container: triton.ContainerKey{Tenant: "acme", ID: acmesID}, Name: acmesName}
}

func (s oneDump) List(tenant triton.Tenant, operator bool) ([]*coredump.Record, int, error) {
	if tenant != "acme" && !operator {
		return nil, 0, nil
	}
	return []*coredump.Record{s.record()}, 0, nil
}

func (s oneDump) Get(tenant triton.Tenant, ref string, operator bool) (*coredump.Record, error) {
	if ref != acmesDump || tenant != "acme" && !operator {
		return nil, fmt.Errorf("no such dump: %s: %w", ref, errdefs.ErrNotFound)
	}
	return s.record(), nil
}

func (s oneDump) Remove(tenant triton.Tenant, ref string, operator bool) error {
	_, err := s.Get(tenant, ref, operator)
	return err
}

func (oneDump) Backtrace(_ context.Context, r *coredump.Record) (*backtrace.Result, error) {
	return &backtrace.Result{Version: backtrace.Version, Signature: backtrace.Signature{Frames: []string{r.Name}}}, nil
}

func (oneDump) OpenMini(*coredump.Record) (*os.File, error) { return os.Open(os.DevNull) }

func (oneDump) OpenCore(*coredump.Record) (*coredump.Core, error) {
	return nil, fmt.Errorf("not kept: %w", errdefs.ErrNotFound)
}

func (oneDump) OpenBundle(*coredump.Record) (*coredump.Bundle, error) {
	return nil, fmt.Errorf("not kept: %w", errdefs.ErrNotFound)
}

// oneDeath is a store with an end of acme's container.
type oneDeath struct{}

func (oneDeath) List(tenant triton.Tenant) ([]*death.Record, int, error) {
	if tenant != "acme" {
		return nil, 0, nil
	}
	return []*death.Record{{Container: triton.ContainerKey{Tenant: tenant, ID: acmesID}, Name: acmesName}}, 0, nil
}

func (s oneDeath) Get(tenant triton.Tenant, ref string) (*death.Record, error) {
	if all, _, _ := s.List(tenant); len(all) == 1 && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return all[0], nil
	}
	return nil, fmt.Errorf("no such death record: %s: %w", ref, errdefs.ErrNotFound)
}

// oneGroup is a store with a group of acme's crashes.
type oneGroup struct{}

func (oneGroup) List(tenant triton.Tenant, _ bool) ([]*crashgroup.Group, int, error) {
	if tenant != "acme" {
		return nil, 0, nil
	}
	return []*crashgroup.Group{{ID: acmesID, Tenant: tenant, Top: acmesName}}, 0, nil
}

func (s oneGroup) Get(tenant triton.Tenant, ref string, operator bool) (*crashgroup.Group, error) {
	if all, _, _ := s.List(tenant, operator); len(all) == 1 && (ref == acmesName || strings.HasPrefix(acmesID, ref)) {
		return all[0], nil
	}
	return nil, fmt.Errorf("no such crash group: %s: %w", ref, errdefs.ErrNotFound)
}

func (s oneGroup) Resolve(tenant triton.Tenant, ref, _ string, operator bool) (*crashgroup.Group, error) {
	return s.Get(tenant, ref, operator)
}

func (s oneGroup) Reopen(tenant triton.Tenant, ref string, operator bool) (*crashgroup.Group, error) {
	return s.Get(tenant, ref, operator)
}

// memory is an auth.Store in memory.
type memory map[string][]byte

func (m memory) Get(_ context.Context, key string) ([]byte, error) {
	if v, ok := m[key]; ok {
		return v, nil
	}
	return nil, fmt.Errorf("%s: %w", key, errdefs.ErrNotFound)
}

func (m memory) List(_ context.Context, prefix string) (keys []string, values [][]byte, err error) {
	for k, v := range m {
		if strings.HasPrefix(k, prefix) {
			keys, values = append(keys, k), append(values, v)
		}
	}
	return keys, values, nil
}

func (m memory) Create(_ context.Context, key string, value []byte) error {
	if _, ok := m[key]; ok {
		return fmt.Errorf("%s: %w", key, errdefs.ErrAlreadyExists)
	}
	m[key] = value
	return nil
}

func (m memory) Delete(_ context.Context, key string) error {
	delete(m, key)
	return nil
}

func newAPI() http.Handler {
	return New(Config{
		Node: oneContainer{}, Cores: oneDump{}, Stacks: oneDump{}, Deaths: oneDeath{}, Groups: oneGroup{}, Profile: oneProfile, Log: slog.New(slog.DiscardHandler),
		Probes: func() wire.Probes { return wire.Probes{} },
		Vars:   func() wire.Vars { return wire.Vars{} },
		Snapshot: func(_ context.Context, sub coredump.Subject, _ int, _ coredump.SnapshotOptions) (*coredump.Record, error) {
			return &coredump.Record{ID: acmesDump, Name: sub.Name}, nil
		},
		LoginLink: func(c auth.Caller) (string, error) { return "http://page/#" + string(c.Tenant), nil },
		Access:    auth.New(auth.Config{Store: memory{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}),
		Uses:      func(context.Context, triton.Tenant) ([]string, error) { return nil, nil },
		Sign: func(context.Context, []byte, triton.Tenant, auth.Role, string, time.Duration) ([]byte, []byte, auth.Credential, error) {
			return nil, nil, auth.Credential{}, errdefs.ErrInvalidArgument
		},
	}).Handler()
}

// ask sends a request as c; nil: as nobody.
func ask(h http.Handler, pattern, ref string, c *auth.Caller) (status int, body string) {
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.NewReplacer("{ref}", ref, "{dump}", ref, "{tenant}", "acme", "{id}", "00").Replace(path)
	r := httptest.NewRequest(method, path, strings.NewReader(`{"name":"x","role":"tenant","seconds":60}`))
	if c != nil {
		r = r.WithContext(auth.WithCaller(r.Context(), *c))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer, _ := io.ReadAll(w.Body)
	return w.Code, string(answer)
}

// Over every route: nobody gets in without a login, tenants not where the operator is meant, and where a path names a
// container, another tenant's is not there, whatever it is called by.
func TestTenantsDoNotMeet(t *testing.T) {
	owner, other := &auth.Caller{Name: "a", Tenant: "acme"}, &auth.Caller{Name: "g", Tenant: "globex"}
	named := 0
	for _, r := range routes() {
		h := newAPI()
		if status, _ := ask(h, r.pattern, acmesID, nil); status != http.StatusUnauthorized {
			t.Errorf("%s without a login answers %d, want 401", r.pattern, status)
		}
		if r.access == forOperator {
			if status, body := ask(h, r.pattern, acmesID, owner); status != http.StatusForbidden {
				t.Errorf("%s answers a tenant %d, want 403: %s", r.pattern, status, body)
			}
			operator := &auth.Caller{Name: "o", Tenant: triton.DefaultTenant, Operator: true}
			if status, body := ask(h, r.pattern, acmesID, operator); status == http.StatusForbidden || status == http.StatusUnauthorized {
				t.Errorf("%s refuses the operator: %d: %s", r.pattern, status, body)
			}
			continue
		}
		refs := []string{acmesID, acmesID[:6], acmesName}
		if strings.Contains(r.pattern, "{dump}") {
			refs = []string{acmesDump}
		} else if !strings.Contains(r.pattern, "{ref}") {
			if _, body := ask(h, r.pattern, "", other); strings.Contains(body, "acme") || strings.Contains(body, acmesID) {
				t.Errorf("%s shows acme's to another tenant: %s", r.pattern, body)
			}
			continue
		}
		named++
		for _, ref := range refs {
			// A dump without a body is told from one that is not there by its message.
			if status, body := ask(h, r.pattern, ref, owner); status >= 300 && !strings.Contains(body, "not kept") {
				t.Errorf("%s of %s answers its owner %d: %s", r.pattern, ref, status, body)
			}
			status, body := ask(h, r.pattern, ref, other)
			if status != http.StatusNotFound {
				t.Errorf("%s of %s answers another tenant %d, want 404", r.pattern, ref, status)
			}
			if nosuch := strings.Replace(body, ref, "nosuch", 1); body == nosuch {
				t.Errorf("%s of %s: another tenant reads %s", r.pattern, ref, body)
			} else if _, missing := ask(h, r.pattern, "nosuch", other); missing != nosuch {
				t.Errorf("%s of %s: another tenant reads %s, of what there is not: %s", r.pattern, ref, body, missing)
			}
		}
	}
	if named == 0 {
		t.Error("no route names a container: nothing was tried")
	}
}

func TestRequestsThatAreNotOne(t *testing.T) {
	h := newAPI()
	operator := auth.Caller{Name: "o", Tenant: triton.DefaultTenant, Operator: true}
	for body, want := range map[string]string{
		``: "body:", `{`: "body:", `{"name":"n","role":"tenant","seconds":0}`: "seconds 0", `{"name":"n","role":"king","seconds":1}`: "king",
		`{"name":"n","role":"tenant","seconds":1,"x":1}`: `unknown field \"x\"`, `{"name":"` + strings.Repeat("x", maxRequest) + `"}`: "too large",
	} {
		r := httptest.NewRequest(http.MethodPost, wire.TenantPath("acme")+"/tokens", strings.NewReader(body))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(auth.WithCaller(r.Context(), operator)))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.40s: %d %s, want 400 with %s", body, w.Code, w.Body, want)
		}
	}
}
