package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/tritond/triton/test/engine"
	"github.com/tritond/triton/test/images"
)

// Fifty followers of a log and fifty of the events, of which every tenth reads nothing: the others get everything, the
// container does not wait, and when the clients vanish nothing of them is left.
func TestFollowersThatDoNotReadHoldUpNobody(t *testing.T) {
	t.Parallel()
	const followers, lines = 50, 20_000 // 2 MB each: more than sockets take unread
	u := own(t)
	name := u.name(t)
	script := "mkfifo /tmp/go; read go </tmp/go; i=0; while [ $i -lt 200 ]; do cat /tmp/block; i=$((i+1)); done"
	prepare := "head -c 99 /dev/zero | tr '\\0' x >/tmp/line; echo >>/tmp/line; i=0; while [ $i -lt 100 ]; do cat /tmp/line; i=$((i+1)); done >/tmp/block; "
	u.ok(t, "run", "-d", "--name", name, images.Busybox, "sh", "-c", prepare+script)
	before := u.size(t)

	api := engine.NewAPI(u.tritond.Host, 2*followers)
	defer api.Close()
	var wg sync.WaitGroup
	var open []io.Closer
	logs, events := make([]int64, followers), make([]bool, followers)
	for i := range followers {
		log, err := api.Stream(t.Context(), "/v1.51/containers/"+name+"/logs?follow=1&stdout=1")
		if err != nil {
			t.Fatal(err)
		}
		event, err := api.Stream(t.Context(), `/v1.51/events?filters={"container":["`+name+`"]}`)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, log, event)
		if i%10 == 0 {
			continue // one that does not read
		}
		wg.Go(func() {
			var out bytes.Buffer
			if _, err := stdcopy.StdCopy(&out, io.Discard, log); err == nil {
				logs[i] = int64(bytes.Count(out.Bytes(), []byte{'\n'}))
			}
		})
		wg.Go(func() {
			var seen strings.Builder
			b := make([]byte, 4096)
			for !strings.Contains(seen.String(), `"Action":"die"`) {
				n, err := event.Read(b)
				seen.Write(b[:n])
				if err != nil {
					return
				}
			}
			events[i] = true
		})
	}
	started := time.Now()
	eventually(t, commandTime, "it begins to write", func() bool {
		return u.docker(t, "exec", name, "sh", "-c", "[ -p /tmp/go ] && echo go >/tmp/go").Code == 0
	})
	u.ok(t, "wait", name)
	t.Logf("ended after %v", time.Since(started))
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(commandTime):
		t.Error("followers that read wait for those that do not")
	}
	for i := range followers {
		if i%10 != 0 && (logs[i] != lines || !events[i]) {
			t.Errorf("follower %d: %d lines of %d, died: %t", i, logs[i], lines, events[i])
		}
	}
	for _, c := range open {
		c.Close()
	}
	api.Close()
	u.ok(t, "rm", name)
	eventually(t, 30*time.Second, "nothing of the clients is left", func() bool {
		now := u.size(t)
		return now.Goroutines <= before.Goroutines+5 && now.FDs <= before.FDs+5
	})
	if r, err := u.api.Do(t.Context(), http.MethodGet, "/_ping", "", nil); err != nil || r.Status != http.StatusOK {
		t.Errorf("ping: %v %d", err, r.Status)
	}
}
