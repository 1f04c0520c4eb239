package volume

import (
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// keyLock is a mutex per volume, for as long as somebody holds it or waits for it.
type keyLock struct {
	mu   sync.Mutex
	held map[triton.VolumeKey]*holder // guarded by mu
}

type holder struct {
	sync.Mutex
	count int // of those who hold it or wait for it; guarded by keyLock.mu
}

// lock returns the function that unlocks.
func (l *keyLock) lock(k triton.VolumeKey) (unlock func()) {
	l.mu.Lock()
	h := l.held[k]
	if h == nil {
		h = &holder{}
		l.held[k] = h
	}
	h.count++
	l.mu.Unlock()
	h.Lock()
	return func() {
		h.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.count--; h.count == 0 {
			delete(l.held, k)
		}
	}
}
