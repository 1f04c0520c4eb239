package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tritond/triton/pkg/triton"
)

// TerminalProtocol is the subprotocol of a terminal's socket. The client's first message is TerminalStart; after it, binary
// frames are the terminal's bytes in both directions, and text frames TerminalControl.
const TerminalProtocol = "triton.terminal.v1"

// TerminalStart says what to run.
type TerminalStart struct {
	Argv []string `json:"argv"`
	User string   `json:"user,omitempty"`
	Rows uint     `json:"rows"`
	Cols uint     `json:"cols"`
}

// TerminalControl is a new size from the client, or the end from the server.
type TerminalControl struct {
	Op   string `json:"op"` // resize, exit or err
	Rows uint   `json:"rows,omitempty"`
	Cols uint   `json:"cols,omitempty"`
	// Code is the exit code.
	Code    *int   `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

const (
	// maxInput is the longest message of a terminal's client: a paste comes in pieces of it.
	maxInput = 64 << 10
	// maxSize is the largest terminal that makes sense; the kernel's winsize has 16 bits.
	maxSize = 1000
	maxArgv = 64
)

func (h *Hub) serveTerminal(w http.ResponseWriter, r *http.Request) {
	who, ok := h.admit(w, r)
	if !ok {
		return
	}
	if !who.Exec {
		http.Error(w, "this login may not run programs in containers", http.StatusForbidden)
		return
	}
	key, err := h.cfg.Containers.ResolveContainer(r.Context(), who.Tenant, r.PathValue("ref"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	conn, err := upgrader(TerminalProtocol).Upgrade(w, r, nil)
	if err != nil {
		return // answered by the upgrader
	}
	defer conn.Close()
	t := &terminal{hub: h, conn: conn, key: key, who: who, req: r.Clone(context.WithoutCancel(r.Context()))}
	done := make(chan struct{})
	defer close(done)
	if !h.spawn(func() { t.guard(h.ctx, done) }) {
		return
	}
	if err := t.serve(h.ctx); err != nil {
		t.say(TerminalControl{Op: "err", Message: err.Error()})
	}
}

// terminal is one socket with one program. Its reads are by input alone; writes are by output and, after its end, serve.
type terminal struct {
	hub  *Hub
	conn *websocket.Conn
	key  triton.ContainerKey
	who  Caller
	req  *http.Request
}

// guard cuts the socket when the hub closes or the login ends, and returns when done is closed: Close waits for it.
func (t *terminal) guard(ctx context.Context, done <-chan struct{}) {
	recheck := time.NewTicker(t.hub.cfg.Recheck)
	defer recheck.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			t.conn.Close()
			<-done
			return
		case <-recheck.C:
			if who, err := t.hub.cfg.Caller(t.req); err != nil || who != t.who {
				t.conn.Close()
			}
		}
	}
}

func (t *terminal) say(c TerminalControl) {
	if data, err := json.Marshal(c); err == nil {
		t.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) //nolint:errcheck // shows at the write
		t.conn.WriteMessage(websocket.TextMessage, data)      //nolint:errcheck // nobody is left to tell
	}
}

// serve runs the program that the first message names until it or the client ends.
func (t *terminal) serve(ctx context.Context) error {
	t.conn.SetReadLimit(maxInput)
	t.conn.SetReadDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // shows at the read
	var start TerminalStart
	if err := t.conn.ReadJSON(&start); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	if err := start.validate(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	size := [2]uint{start.Rows, start.Cols}
	id, err := t.hub.cfg.Terminals.CreateExec(ctx, t.key, triton.ExecSpec{
		Argv: start.Argv, User: start.User, TTY: true, Stdin: true, Stdout: true, ConsoleSize: size, Env: []string{"TERM=xterm-256color"},
	})
	if err != nil {
		return err
	}
	exec := triton.ExecKey{Container: t.key, ID: id}
	attached, err := t.hub.cfg.Terminals.AttachExec(ctx, exec, size)
	if err != nil {
		return err
	}
	defer attached.Close()
	in, feed := io.Pipe()
	read := make(chan struct{})
	go func() {
		defer close(read)
		t.input(ctx, exec, feed)
	}()
	err = attached.Serve(ctx, in, terminalOutput{t.conn})
	in.CloseWithError(io.ErrClosedPipe)
	if err == nil {
		t.sayEnd(ctx, exec)
	}
	t.conn.SetReadDeadline(time.Now()) //nolint:errcheck // ends input
	<-read
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (s TerminalStart) validate() error {
	switch {
	case len(s.Argv) == 0 || len(s.Argv) > maxArgv || s.Argv[0] == "":
		return fmt.Errorf("a terminal needs a program and at most %d arguments", maxArgv-1)
	case s.Rows > maxSize || s.Cols > maxSize:
		return fmt.Errorf("a terminal has at most %d rows and columns", maxSize)
	}
	return nil
}

// hangUp is typed into the terminal of a client that has gone: interrupt, then end of input. A shell leaves; a program that
// ignores both goes on, as it does under docker exec.
var hangUp = []byte{0x03, 0x04}

// input feeds the terminal until the socket ends.
func (t *terminal) input(ctx context.Context, exec triton.ExecKey, feed *io.PipeWriter) {
	defer feed.Close()
	t.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // a dead peer is found by keepalive
	for {
		kind, data, err := t.conn.ReadMessage()
		if err != nil {
			feed.Write(hangUp) //nolint:errcheck // the program may have ended
			return
		}
		if kind == websocket.BinaryMessage {
			if _, err := feed.Write(data); err != nil {
				return
			}
			continue
		}
		var c TerminalControl
		if json.Unmarshal(data, &c) == nil && c.Op == "resize" && c.Rows > 0 && c.Rows <= maxSize && c.Cols > 0 && c.Cols <= maxSize {
			if err := t.hub.cfg.Terminals.ResizeExec(ctx, exec, c.Rows, c.Cols); err != nil {
				t.hub.cfg.Log.Debug("terminal not resized", "container", t.key, "err", err)
			}
		}
	}
}

func (t *terminal) sayEnd(ctx context.Context, exec triton.ExecKey) {
	end := TerminalControl{Op: "exit"}
	if e, err := t.hub.cfg.Terminals.InspectExec(ctx, exec); err == nil {
		end.Code = e.ExitCode
	}
	t.say(end)
}

// terminalOutput writes a program's bytes as binary frames.
type terminalOutput struct{ conn *websocket.Conn }

func (o terminalOutput) Write(p []byte) (int, error) {
	o.conn.SetWriteDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // shows at the write
	if err := o.conn.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
