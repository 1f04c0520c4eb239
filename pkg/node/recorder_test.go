package node

import (
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

func TestRecordingsWithTheYoungestCallsAreKept(t *testing.T) {
	at := func(tid int, seconds ...int64) triton.Recording {
		r := triton.Recording{Tid: tid}
		for _, s := range seconds {
			r.Calls = append(r.Calls, triton.Call{At: time.Unix(s, 0)})
		}
		return r
	}
	got, more := youngest([]triton.Recording{at(1, 5, 6), at(2), at(3, 1, 9), at(4, 7)}, 2)
	if len(got) != 2 || got[0].Tid != 3 || got[1].Tid != 4 || more != 2 {
		t.Errorf("got %+v and %d more, want threads 3 and 4 and 2 more", got, more)
	}
	if got, more := youngest(nil, 2); len(got) != 0 || more != 0 {
		t.Errorf("of none: %+v, %d", got, more)
	}
}
