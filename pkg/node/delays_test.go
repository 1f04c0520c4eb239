package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

// A tenant is told of its own containers by name; of others it learns how long it waited, not for whom.
func TestTenantsSeeForeignCulpritsAsOther(t *testing.T) {
	key := func(tenant triton.Tenant, id string) triton.ContainerKey {
		return triton.ContainerKey{Tenant: tenant, ID: id}
	}
	victim, own, foreign, foreign2 := key("acme", "v"), key("acme", "o"), key("globex", "f"), key("globex", "g")
	names := map[triton.ContainerKey]string{victim: "victim", own: "own", foreign: "secret", foreign2: "secret2"}
	delay := func(c triton.Culprit, k triton.ContainerKey, s int) triton.Delay {
		return triton.Delay{Culprit: c, Container: k, Wait: time.Duration(s) * time.Second}
	}
	none := triton.ContainerKey{}
	delays := []triton.Delay{
		delay(triton.CulpritContainer, victim, 1), delay(triton.CulpritContainer, own, 2), delay(triton.CulpritContainer, foreign, 30),
		delay(triton.CulpritContainer, foreign2, 40), delay(triton.CulpritEnded, none, 5), delay(triton.CulpritHost, none, 6), delay(triton.CulpritUnknown, none, 7),
	}
	named := func(name string, d triton.Delay) NamedDelay { return NamedDelay{Delay: d, Name: name} }
	host, unknown := named("", delay(triton.CulpritHost, none, 6)), named("", delay(triton.CulpritUnknown, none, 7))
	self, ours := named("", delay(CulpritSelf, none, 1)), named("own", delay(triton.CulpritContainer, own, 2))
	want := []NamedDelay{named("", delay(CulpritOther, none, 75)), unknown, host, ours, self}
	if diff := cmp.Diff(want, culprits(victim, delays, names, false)); diff != "" {
		t.Errorf("a tenant sees: %s", diff)
	}
	want = []NamedDelay{
		named("secret2", delay(triton.CulpritContainer, foreign2, 40)), named("secret", delay(triton.CulpritContainer, foreign, 30)),
		unknown, host, named("", delay(triton.CulpritEnded, none, 5)), ours, self,
	}
	if diff := cmp.Diff(want, culprits(victim, delays, names, true)); diff != "" {
		t.Errorf("an operator sees: %s", diff)
	}
}
