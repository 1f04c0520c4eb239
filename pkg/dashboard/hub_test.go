package dashboard

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tritond/triton/pkg/triton"
)

func cell(f *TableFrame, col, i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(f.Cols[col][4*i:])))
}

func TestTableBeginsWithSnapshotThenTicksOfWhatChanged(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	gone := f.add("acme", "db")
	f.pass(1)
	_, url := f.start(t)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "containers"})
	ok := b.reply("ok")
	var snap TableFrame
	head := b.frame(&snap)
	if head.Kind != KindSnapshot || head.Group != ok.Group || snap.N != 2 || len(snap.Meta) != 2 || len(snap.History) != 2*2*historyTicks {
		t.Fatalf("snapshot %+v of %d rows, %d described, %d bytes of history", head, snap.N, len(snap.Meta), len(snap.History))
	}
	f.pass(2)
	var tick TableFrame
	if h := b.frame(&tick); h.Kind != KindTick || h.Seq != head.Seq+1 || tick.N != 2 || tick.Meta != nil {
		t.Fatalf("tick %+v of %d rows", h, tick.N)
	}
	if cpu, calls := cell(&tick, colCPU, 0), cell(&tick, colSyscalls, 1); cpu != 0.5 || calls != 1 {
		t.Errorf("CPU %v and calls %v per second, want 0.5 and 1", cpu, calls)
	}
	f.remove(gone)
	f.add("acme", "new")
	f.pass(3)
	var third TableFrame
	b.frame(&third)
	if len(third.Gone) != 1 || len(third.Meta) != 1 || third.Meta[0].Name != "new" {
		t.Errorf("gone %v, new %+v", third.Gone, third.Meta)
	}
}

func TestTableFollowsNumbersThroughTheFilter(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	_, url := f.start(t)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "containers", Query: "cpu>0.4"})
	b.reply("ok")
	var snap, in, out TableFrame
	b.frame(&snap)
	if snap.N != 0 {
		t.Fatalf("%d rows match before any number is known", snap.N)
	}
	for n, got := 1, 0; got == 0; n++ {
		f.pass(n)
		in = TableFrame{}
		b.frame(&in)
		got = in.N
	}
	if len(in.Meta) != 1 || in.Meta[0].Name != "web" {
		t.Errorf("a row that begins to match is described by %+v", in.Meta)
	}
	f.mu.Lock()
	f.list[0].State.Status = triton.StatusExited
	f.changes++
	f.mu.Unlock()
	f.pass(9)
	b.frame(&out)
	if len(out.Gone) != 1 || out.N != 0 {
		t.Errorf("a row that matches no more: gone %v, %d rows", out.Gone, out.N)
	}
}

// TestTableBeginsWithTheStoresMinute: a new viewer sees numbers at once, and a curve without a hole at its end.
func TestTableBeginsWithTheStoresMinute(t *testing.T) {
	f := newFleet()
	key := f.add("acme", "web")
	for n := 1; n <= 3; n++ {
		f.pass(n)
		s, _ := f.Last(key)
		s.RunQueue = triton.Histogram{First: -10, Counts: []uint64{uint64(n)}} // the window has what came since the sample before
		f.window = append(f.window, s)
	}
	_, url := f.start(t)
	b := dial(t, url, "alice")
	b.say(Request{Op: "sub", ID: 1, Topic: "containers"})
	b.reply("ok")
	var snap TableFrame
	b.frame(&snap)
	if cpu := cell(&snap, colCPU, 0); cpu != 0.5 {
		t.Errorf("CPU at once is %v, want 0.5", cpu)
	}
	var got []uint16
	for i := 2 * (historyTicks - 3); i < len(snap.History); i += 2 {
		got = append(got, binary.LittleEndian.Uint16(snap.History[i:]))
	}
	if want := []uint16{unknownCPU, 500, 500}; !slices.Equal(got, want) {
		t.Errorf("the end of the history is %v, want %v", got, want)
	}
	if wait := cell(&snap, colWait99, 0); wait <= 1.0/2048 || wait > 1.0/1024 {
		t.Errorf("the wait at once is %v, want one of the last second", wait)
	}
	f.pass(4)
	var tick TableFrame
	b.frame(&tick)
	if wait := cell(&tick, colWait99, 0); wait <= 0 || wait > 1e-6 {
		t.Errorf("the wait of the second after it is %v, want one of that second", wait)
	}
}

func TestClientsShareAGroupWithinATenantOnly(t *testing.T) {
	f := newFleet()
	mine := f.add("acme", "web")
	f.pass(1)
	h, url := f.start(t)
	a, e, b := dial(t, url, "alice"), dial(t, url, "eve"), dial(t, url, "bob")
	var groups [3]uint32
	var rows [3]int
	for i, c := range []*browser{a, e, b} {
		c.say(Request{Op: "sub", ID: 1, Topic: "containers"})
		groups[i] = c.reply("ok").Group
		var snap TableFrame
		c.frame(&snap)
		rows[i] = snap.N
	}
	if groups[0] != groups[1] || groups[0] == groups[2] || h.Stats().Groups != 2 {
		t.Errorf("groups %v, %d in all", groups, h.Stats().Groups)
	}
	if rows != [3]int{1, 1, 0} {
		t.Errorf("rows seen: %v, want 1 1 0", rows)
	}
	for i, topic := range []string{"container", "events", "logs"} {
		b.say(Request{Op: "sub", ID: uint32(10 + i), Topic: topic, Key: mine.ID})
		if r := b.reply("err"); r.Code != "not_found" {
			t.Errorf("%s of another tenant: %+v", topic, r)
		}
	}
}

// TestNoForeignFrameInManySubscriptions: whatever another tenant asks for, it gets nothing of this one's.
func TestNoForeignFrameInManySubscriptions(t *testing.T) {
	f := newFleet()
	var ids []string
	for i := range 40 {
		ids = append(ids, f.add("acme", fmt.Sprintf("secret-%d", i)).ID)
	}
	f.pass(1)
	_, url := f.start(t)
	b := dial(t, url, "bob")
	r := rand.New(rand.NewPCG(1, 2))
	topics := []string{"containers", "container", "events", "logs"}
	queries := []string{"", "secret", "name:*", "-web", "state:running"}
	for i := range 10_000 {
		req := Request{Op: "sub", ID: uint32(i + 1), Topic: topics[r.IntN(4)], From: uint64(r.IntN(3)), Boot: "boot1"}
		if req.Topic == "containers" {
			req.Query = queries[r.IntN(len(queries))]
		} else {
			req.Key = ids[r.IntN(len(ids))]
			if r.IntN(4) == 0 {
				req.Key = fmt.Sprintf("secret-%d", r.IntN(40))
			}
		}
		b.say(req)
		answer, data := b.next()
		for answer == nil { // a tick of an earlier one
			t.Fatalf("frame of %d bytes before an answer", len(data))
		}
		if req.Topic != "containers" {
			if answer.Op != "err" || answer.Code != "not_found" {
				t.Fatalf("%+v: %+v", req, *answer)
			}
			continue
		}
		var snap TableFrame
		b.frame(&snap)
		if answer.Op != "ok" || snap.N != 0 || len(snap.Meta) != 0 {
			t.Fatalf("%+v: %+v, %d rows", req, *answer, snap.N)
		}
		b.say(Request{Op: "unsub", ID: req.ID})
	}
}

func TestReconnectReplaysWhatIsKeptOrTakesASnapshot(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	_, url := f.start(t)
	stay, b := dial(t, url, "eve"), dial(t, url, "alice")
	var last Head
	for _, c := range []*browser{stay, b} {
		c.say(Request{Op: "sub", ID: 1, Topic: "containers"})
		c.reply("ok")
		c.frame(&TableFrame{})
	}
	tick := func(n int) {
		f.pass(n)
		stay.frame(&TableFrame{})
	}
	tick(1)
	last = b.frame(&TableFrame{})
	b.conn.Close()
	tick(2)
	tick(3)
	back := dial(t, url, "alice")
	back.say(Request{Op: "sub", ID: 1, Topic: "containers", From: last.Seq, Boot: back.boot})
	if r := back.reply("ok"); !r.Resumed {
		t.Errorf("not resumed after two frames")
	}
	for want := last.Seq + 1; want <= last.Seq+2; want++ {
		if h := back.frame(&TableFrame{}); h.Seq != want || h.Kind != KindTick {
			t.Errorf("replayed frame %+v, want number %d", h, want)
		}
	}
	for n := 4; n < 4+ringFrames; n++ {
		tick(n)
		back.frame(&TableFrame{})
	}
	for name, r := range map[string]Request{"too old": {From: last.Seq, Boot: "boot1"}, "another run of the daemon": {From: last.Seq + 60, Boot: "boot0"}, "the future": {From: 1 << 40, Boot: "boot1"}} {
		late := dial(t, url, "alice")
		r.Op, r.ID, r.Topic = "sub", 1, "containers"
		late.say(r)
		if ok := late.reply("ok"); ok.Resumed {
			t.Errorf("%s: resumed", name)
		}
		if h := late.frame(&TableFrame{}); h.Kind != KindSnapshot {
			t.Errorf("%s: %+v, want a snapshot", name, h)
		}
	}
}

func TestSlowClientIsToldWhatItLostAndGoesOnFromNow(t *testing.T) {
	f := newFleet()
	f.add("acme", "web")
	h, url := f.start(t)
	slow, quick := dial(t, url, "alice"), dial(t, url, "eve")
	for _, c := range []*browser{slow, quick} {
		c.say(Request{Op: "sub", ID: 1, Topic: "containers"})
		c.reply("ok")
		c.frame(&TableFrame{})
	}
	const ticks = 40
	for n := 1; n <= ticks; n++ {
		f.pass(n)
		quick.frame(&TableFrame{}) // is not held up
	}
	waitFor(t, "drops are counted", func() bool { return h.Stats().Dropped > 0 })
	got, lost, resynced := 0, uint64(0), false
	var last Head
	for last.Seq < ticks {
		r, data := slow.next()
		if r != nil {
			if r.Op != "dropped" {
				t.Fatalf("unexpected %+v", *r)
			}
			lost += r.Dropped
			continue
		}
		var tf TableFrame
		unmarshal(t, data, &tf)
		if tf.Kind == KindResync {
			resynced = true
			if tf.N != 1 {
				t.Errorf("the new state has %d rows", tf.N)
			}
		} else {
			got++
		}
		last = tf.Head
		slow.acked++
		slow.say(Request{Op: "ack", N: slow.acked})
	}
	if !resynced || lost == 0 || got+int(lost) < ticks {
		t.Errorf("%d ticks, %d lost, resynced %v: want %d ticks accounted for", got, lost, resynced, ticks)
	}
}

func TestSourceStopsAWhileAfterTheLastViewerLeft(t *testing.T) {
	f := newFleet()
	key := f.add("acme", "web")
	h, url := f.start(t)
	reading := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.readers
	}
	a, b := dial(t, url, "alice"), dial(t, url, "eve")
	for _, c := range []*browser{a, b} {
		c.say(Request{Op: "sub", ID: 1, Topic: "events", Key: key.ID})
		c.reply("ok")
		for told := false; !told; { // of the start of web: nothing else is on its way then
			var e EventFrame
			c.frame(&e)
			told = len(e.Events) > 0
		}
	}
	if n := reading(); n != 1 {
		t.Fatalf("%d readers of the journal for two clients", n)
	}
	a.say(Request{Op: "pause"})
	b.conn.Close()
	waitFor(t, "the source stops", func() bool { return reading() == 0 && h.Stats().Groups == 0 })
	a.say(Request{Op: "resume"})
	a.reply("ok")
	waitFor(t, "it starts again", func() bool { return reading() == 1 })
}

func TestForeignOriginsAndStrangersAreRefused(t *testing.T) {
	f := newFleet()
	key := f.add("acme", "web")
	_, url := f.start(t)
	for _, c := range []struct {
		name, path, login, origin string
		want                      int
	}{
		{"no login", Path, "", "", 401},
		{"another page's script", Path, "cookie", "http://evil.example", 403},
		{"a cookie without origin", Path, "cookie", "", 403},
		{"an origin that is none", Path, "alice", "null", 403},
		{"terminal without the right", TerminalPath + key.ID, "eve", "", 403},
		{"terminal of another tenant", TerminalPath + key.ID, "bob", "", 404},
		{"terminal without login", TerminalPath + key.ID, "", "", 401},
	} {
		header := http.Header{"Authorization": {c.login}}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		_, resp, err := websocket.DefaultDialer.Dial(url+c.path, header)
		if err == nil || resp == nil || resp.StatusCode != c.want {
			t.Errorf("%s: %v, %v; want %d", c.name, resp, err, c.want)
		}
	}
}

func TestSocketClosesWhenTheLoginEnds(t *testing.T) {
	f := newFleet()
	_, url := f.start(t)
	b := dial(t, url, "alice")
	f.mu.Lock()
	delete(f.callers, "alice")
	f.mu.Unlock()
	b.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, _, err := b.conn.ReadMessage(); !websocket.IsCloseError(err, closeSignedOut) {
		t.Errorf("ended with %v, want close code %d", err, closeSignedOut)
	}
}

func TestBadRequestsAreNamedAndHarmless(t *testing.T) {
	f := newFleet()
	_, url := f.start(t)
	b := dial(t, url, "alice")
	for _, c := range []struct{ text, code string }{
		{`{`, "invalid"}, {`{"op":"dance"}`, "invalid"}, {`{"op":"sub","id":1,"topic":"moon"}`, "invalid"},
		{`{"op":"sub","id":0,"topic":"containers"}`, "invalid"}, {`{"op":"sub","id":1,"topic":"containers","res":3}`, "invalid"},
		{`{"op":"sub","id":1,"topic":"containers","q":"cpu:1"}`, "invalid"}, {`{"op":"sub","id":1,"topic":"containers","key":"x"}`, "invalid"},
		{`{"op":"sub","id":1,"topic":"logs","key":"x","res":2}`, "invalid"}, {`{"op":"sub","id":1,"topic":"logs","key":"x"}`, "not_found"},
		{`{"op":"ack","n":5}`, "invalid"},
	} {
		if err := b.conn.WriteMessage(websocket.TextMessage, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		if r := b.reply("err"); r.Code != c.code || r.Message == "" {
			t.Errorf("%s: %+v, want code %s", c.text, r, c.code)
		}
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	f := newFleet()
	_, url := f.start(t)
	b := dial(t, url, "alice")
	for i := range maxSubs {
		b.say(Request{Op: "sub", ID: uint32(i + 1), Topic: "containers"})
		b.reply("ok")
		b.frame(&TableFrame{})
	}
	b.say(Request{Op: "sub", ID: 1000, Topic: "containers"})
	if r := b.reply("err"); r.Code != "limit" {
		t.Errorf("one more: %+v", r)
	}
}
