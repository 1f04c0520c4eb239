package dockerapi

import (
	"sync"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// maxAnswers bounds the answers kept: each is as large as a list.
const maxAnswers = 64

// answerCache keeps whole answers of docker ps. An answer holds as long as nothing changed and the second is the same,
// since status texts count seconds.
type answerCache struct {
	mu   sync.Mutex
	kept map[answerKey]answer
}

type answerKey struct {
	tenant triton.Tenant
	query  string
}

type answer struct {
	changes uint64
	second  int64
	body    []byte
}

// get returns an answer that still holds, or nil.
func (a *answerCache) get(key answerKey, changes uint64, now time.Time) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if have, ok := a.kept[key]; ok && have.changes == changes && have.second == now.Unix() {
		return have.body
	}
	return nil
}

// put keeps an answer that was computed from what there was at changes or later.
func (a *answerCache) put(key answerKey, changes uint64, now time.Time, body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil || len(a.kept) >= maxAnswers {
		a.kept = map[answerKey]answer{}
	}
	a.kept[key] = answer{changes: changes, second: now.Unix(), body: body}
}
