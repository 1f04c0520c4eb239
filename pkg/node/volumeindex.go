package node

import (
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// volumeIndex knows the volumes of all tenants. The records in it never change.
type volumeIndex struct {
	// change is held while a volume is made or removed, and while somebody begins to use it.
	change sync.Mutex
	// claims count creations of containers that are under way and will use a volume; guarded by change.
	claims map[triton.VolumeKey]int

	mu   sync.Mutex
	byID map[triton.VolumeKey]*volumeRecord // guarded by mu
}

func newVolumeIndex() *volumeIndex {
	return &volumeIndex{claims: map[triton.VolumeKey]int{}, byID: map[triton.VolumeKey]*volumeRecord{}}
}

func (i *volumeIndex) put(r *volumeRecord) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byID[r.Key] = r
}

func (i *volumeIndex) forget(k triton.VolumeKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, k)
}

// get returns nil where there is none.
func (i *volumeIndex) get(k triton.VolumeKey) *volumeRecord {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.byID[k]
}

func (i *volumeIndex) ofTenant(t triton.Tenant) []*volumeRecord {
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []*volumeRecord
	for k, r := range i.byID {
		if k.Tenant == t {
			list = append(list, r)
		}
	}
	return list
}
