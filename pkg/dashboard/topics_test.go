package dashboard

import (
	"encoding/binary"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tritond/triton/pkg/triton"
)

func unmarshal(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := msgpack.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func TestContainerTopicTellsSecondsCallsAndTheEnd(t *testing.T) {
	f := newFleet()
	key := f.add("acme", "web")
	f.pass(1)
	_, url := f.start(t)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "container", Key: "web"})
	b.reply("ok")
	var snap, tick, gone ContainerFrame
	b.frame(&snap)
	if snap.Meta == nil || snap.Meta.Name != "web" || len(snap.Columns) != 0 {
		t.Fatalf("snapshot %+v", snap)
	}
	f.pass(2)
	b.frame(&tick)
	if len(tick.Columns) != 1 || tick.Calls == nil {
		t.Fatalf("tick has %d columns, calls %v", len(tick.Columns), tick.Calls)
	}
	c := tick.Columns[0]
	if c.Calls.First != -96 || binary.LittleEndian.Uint32(c.Calls.Counts) != 1 || c.Waits.First != -95 || c.TimeMs != 1_700_000_002_000 {
		t.Errorf("column %+v", c)
	}
	if tick.Calls.Seconds != 1 || binary.LittleEndian.Uint16(tick.Calls.Nr) != 0 {
		t.Errorf("calls %+v", tick.Calls)
	}
	f.pass(9) // seven seconds later: what came between is a hole, not a second
	var hole ContainerFrame
	b.frame(&hole)
	if len(hole.Columns) != 0 {
		t.Errorf("a hole of seven seconds is shown as %d columns", len(hole.Columns))
	}
	f.remove(key)
	f.pass(10)
	if b.frame(&gone); !gone.Removed {
		t.Errorf("after the removal: %+v", gone)
	}
	if r := b.reply("end"); r.ID != 1 {
		t.Errorf("%+v", r)
	}
}

func TestLogsTopicJoinsPartsAndNeutralisesNothingTwice(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	f.logs = []string{"one\n", "long ", "line\n", "bad \xff\n"}
	_, url := f.start(t)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "logs", Key: "web"})
	b.reply("ok")
	var snap LogFrame
	b.frame(&snap)
	if len(snap.Lines) != 3 || snap.Lines[1].Text != "long line" || snap.Lines[2].Text != "bad \uFFFD" {
		t.Errorf("lines %+v", snap.Lines)
	}
}

func TestPendingLinesAreBoundedAndCounted(t *testing.T) {
	p := &pending{}
	for i := range logLines + 25 {
		p.add(triton.LogRecord{Stream: "stdout", Time: time.Unix(int64(i), 0), Line: []byte("x\n")})
	}
	p.add(triton.LogRecord{Stream: "stderr", Line: append(make([]byte, logText+1), '\n')})
	rows, skipped := p.take(logLines)
	if len(rows) != logLines || skipped != 26 || !rows[logLines-1].Cut || len(rows[logLines-1].Text) != logText {
		t.Errorf("%d lines, %d skipped, last %d bytes", len(rows), skipped, len(rows[len(rows)-1].Text))
	}
}

func TestTerminalCarriesBytesAndTheExitCode(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	_, url := f.start(t)
	d := websocket.Dialer{Subprotocols: []string{TerminalProtocol}}
	conn, _, err := d.Dial(url+TerminalPath+"web", http.Header{"Authorization": {"alice"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if err := conn.WriteJSON(TerminalStart{Argv: []string{"sh"}, Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	conn.WriteMessage(websocket.BinaryMessage, []byte("hi"))
	if kind, data, err := conn.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(data) != "hi" {
		t.Fatalf("%d %q %v", kind, data, err)
	}
	conn.WriteMessage(websocket.BinaryMessage, []byte("exit"))
	var end TerminalControl
	if err := conn.ReadJSON(&end); err != nil || end.Op != "exit" || end.Code == nil || *end.Code != 7 {
		t.Errorf("end %+v, %v", end, err)
	}
}
