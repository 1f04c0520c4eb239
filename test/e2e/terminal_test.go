package e2e

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a docker client that believes a user sits before it.
type terminal struct {
	t    *testing.T
	cmd  *exec.Cmd
	file *os.File
	done chan struct{} // closed when all output was read

	mu   sync.Mutex
	out  bytes.Buffer
	seen int // how much of out earlier expects consumed
}

// terminal starts docker on a new pseudo terminal of the given size.
func (u *under) terminal(t *testing.T, rows, cols uint16, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTime)
	x := &terminal{t: t, cmd: u.cli.Command(ctx, args...), done: make(chan struct{})}
	file, err := pty.StartWithSize(x.cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	x.file = file
	go x.read()
	t.Cleanup(func() {
		cancel()
		x.cmd.Wait() // an error here is the kill, or "already waited"
		file.Close()
		<-x.done
	})
	return x
}

func (x *terminal) read() {
	defer close(x.done)
	buf := make([]byte, 4096)
	for {
		n, err := x.file.Read(buf)
		x.mu.Lock()
		x.out.Write(buf[:n])
		x.mu.Unlock()
		if err != nil { // EIO once the last holder of the other end is gone
			return
		}
	}
}

// send types text.
func (x *terminal) send(text string) {
	x.t.Helper()
	if _, err := io.WriteString(x.file, text); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until text appears after what the last expect found.
func (x *terminal) expect(text string) {
	x.t.Helper()
	found := within(30*time.Second, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		i := bytes.Index(x.out.Bytes()[x.seen:], []byte(text))
		if i < 0 {
			return false
		}
		x.seen += i + len(text)
		return true
	})
	if !found {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.t.Fatalf("terminal does not show %q, but %q", text, x.out.String()[x.seen:])
	}
}

// resize changes the size of the terminal.
func (x *terminal) resize(rows, cols uint16) {
	x.t.Helper()
	if err := pty.Setsize(x.file, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		x.t.Fatal(err)
	}
}

// code waits for the client's end and returns its exit code.
func (x *terminal) code() int {
	x.t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.cmd.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(commandTime):
		x.t.Fatal("the client does not end")
	}
	return x.cmd.ProcessState.ExitCode()
}
