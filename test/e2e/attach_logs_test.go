package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/tritond/triton/test/images"
)

// A client that asks for the log and the stream gets each line once, whenever it comes.
func TestLogAndStreamHaveEachLineOnce(t *testing.T) {
	tritonOnly(t) // dockerd may repeat lines or leave some out
	u := shared(t)
	const clients = 12
	// Lines come in two parts, so that some are not in the log yet when a client comes.
	name := u.detached(t, images.Busybox, "sh", "-c",
		"i=0; until [ -e /go ]; do i=$((i+1)); printf 'line '; usleep 300; echo $i; done; echo end $i")
	got := make([]string, clients)
	var readers sync.WaitGroup
	for i := range clients {
		c := u.socket(t, name, "logs=1&stream=1&stdout=1")
		readers.Go(func() { got[i] = toTheEnd(c) })
		before := u.lastLine(t, name)
		eventually(t, 20*time.Second, "more lines are written", func() bool { return u.lastLine(t, name) != before })
	}
	release(t, u.pid(t, name))
	readers.Wait()
	for i, text := range got {
		if err := eachOnce(text); err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

func (u *under) lastLine(t *testing.T, name string) string {
	t.Helper()
	return u.ok(t, "logs", "--tail", "1", name)
}

// toTheEnd reads what a socket has until it is closed.
func toTheEnd(c *websocket.Conn) string {
	var all strings.Builder
	for {
		_, data, err := c.ReadMessage()
		if err != nil {
			return all.String()
		}
		all.Write(data)
	}
}

// eachOnce checks that text is line 1, line 2 and so on, and then how many there were.
func eachOnce(text string) error {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		switch line {
		case fmt.Sprintf("line %d", i+1):
			continue
		case fmt.Sprintf("end %d", i):
			return nil
		}
		return fmt.Errorf("line %d of %d is %q", i+1, len(lines), line)
	}
	return fmt.Errorf("it has %d lines and no end", len(lines))
}

// Who comes before the start gets what the runs before have written, and then the next one.
func TestLogAndStreamOfAContainerThatIsNotStarted(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	name := u.name(t)
	u.ok(t, "create", "--name", name, images.Busybox, "sh", "-c", "echo a; printf b")
	first := u.socket(t, name, "logs=1&stream=1&stdout=1")
	u.ok(t, "start", name)
	equal(t, "of the first run", toTheEnd(first), "a\nb")
	u.ok(t, "wait", name)
	second := u.socket(t, name, "logs=1&stream=1&stdout=1")
	u.ok(t, "start", name)
	equal(t, "of both", toTheEnd(second), "a\nba\nb")
}

// Who follows a log slowly gets all of it, though it was rotated meanwhile and its container is removed.
func TestASlowFollowerReadsTheLogOfARemovedContainer(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	const lines = 60_000 // five files of log, and more than sockets take unread
	for _, driver := range []string{"json-file", "local"} {
		name := u.detached(t, "--log-driver", driver, "--log-opt", "max-size=1m", "--log-opt", "max-file=9", images.Busybox, "sh", "-c",
			fmt.Sprintf("echo begin; until [ -e /go ]; do usleep 10000; done; seq 1 %d", lines))
		log, err := u.api.Stream(t.Context(), "/v1.51/containers/"+name+"/logs?follow=1&stdout=1")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		const header = 8
		first := make([]byte, header+len("begin\n"))
		if _, err := io.ReadFull(log, first); err != nil {
			t.Fatal(err)
		}
		release(t, u.pid(t, name))
		u.ok(t, "wait", name)
		path := u.inspect(t, name, "{{.State.Status}} {{.ResolvConfPath}}")
		u.ok(t, "rm", name)
		dir := filepath.Dir(strings.TrimPrefix(path, "exited "))
		eventually(t, 20*time.Second, "its directory is gone", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
		var out bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, io.Discard, log); err != nil {
			t.Errorf("%s: %v", driver, err)
		}
		got := strings.Fields(out.String())
		if len(got) != lines || got[0] != "1" || got[lines-1] != fmt.Sprint(lines) {
			t.Errorf("%s: %d lines of %d, the last is %q", driver, len(got), lines, got[max(0, len(got)-1):])
		}
	}
}
