package node

import (
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// netIndex knows the networks that users made. The records in it never change.
type netIndex struct {
	mu   sync.Mutex
	byID map[triton.NetworkKey]*networkRecord
	name map[nameKey]*networkRecord
}

func newNetIndex() *netIndex {
	return &netIndex{byID: map[triton.NetworkKey]*networkRecord{}, name: map[nameKey]*networkRecord{}}
}

func (i *netIndex) put(r *networkRecord) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byID[r.Key] = r
	i.name[nameKey{r.Key.Tenant, r.Spec.Name}] = r
}

func (i *netIndex) forget(r *networkRecord) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, r.Key)
	delete(i.name, nameKey{r.Key.Tenant, r.Spec.Name})
}

// get returns nil where there is none.
func (i *netIndex) get(k triton.NetworkKey) *networkRecord {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.byID[k]
}

// named returns nil where there is none.
func (i *netIndex) named(t triton.Tenant, name string) *networkRecord {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.name[nameKey{t, name}]
}

func (i *netIndex) ofTenant(t triton.Tenant) []*networkRecord {
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []*networkRecord
	for k, r := range i.byID {
		if k.Tenant == t {
			list = append(list, r)
		}
	}
	return list
}
