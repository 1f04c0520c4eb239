package bpftest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// conversation is a connection to a name server, as its packets are made.
type conversation struct {
	o    *NamesObjects
	next [2]uint32 // sequence numbers: in, out
}

// converse begins one near the end of the sequence numbers.
func converse(t testing.TB, o *NamesObjects) *conversation {
	t.Helper()
	c := &conversation{o: o, next: [2]uint32{1<<32 - 20, 1<<32 - 40}}
	c.packet(t, true, c.next[1]-1, true, nil)
	c.packet(t, false, c.next[0]-1, true, nil)
	return c
}

func (c *conversation) packet(t testing.TB, out bool, seq uint32, syn bool, data []byte) {
	t.Helper()
	if out {
		pass(t, c.o.TestOut, segment(40000, 53, seq, syn, data))
	} else {
		pass(t, c.o.TestIn, segment(53, 40000, seq, syn, data))
	}
}

// most is how much data a packet of the tests has.
const most = 1400

// send passes the next bytes of one direction, parted at offsets and where a packet is full.
func (c *conversation) send(t testing.TB, out bool, data []byte, parts ...int) {
	t.Helper()
	way := 0
	if out {
		way = 1
	}
	for begin, parts := 0, append(parts, len(data)); begin < len(data); {
		end := min(begin+most, parts[0])
		c.packet(t, out, c.next[way], false, data[begin:end])
		c.next[way] += uint32(end - begin)
		if begin = end; begin == parts[0] {
			parts = parts[1:]
		}
	}
}

func withLength(t testing.TB, messages ...*dns.Msg) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		p := packed(t, m)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

// streamTotals are totals without times.
func streamTotals(t testing.TB, o *NamesObjects) NamesDnsTotals {
	t.Helper()
	totals := dnsTotals(t, o)
	totals.LatencySumNs, totals.Latency = 0, [145]uint64{}
	return totals
}

func TestKernelStreamsArePartedIntoMessages(t *testing.T) {
	question := func(id uint16) *dns.Msg {
		q := new(dns.Msg).SetQuestion("a.example.", dns.TypeTXT)
		q.Id = id
		return q
	}
	answer := func(id uint16) *dns.Msg {
		a := new(dns.Msg).SetReply(question(id))
		for range 20 { // longer than a packet of the test
			a.Answer = append(a.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{longName[:200]}})
		}
		return a
	}
	for _, c := range []struct {
		name string
		do   func(c *conversation)
		want NamesDnsTotals
	}{
		{"one by one", func(c *conversation) {
			for id := range uint16(3) {
				c.send(t, true, withLength(t, question(id)))
				c.send(t, false, withLength(t, answer(id)))
			}
		}, NamesDnsTotals{Asked: 3, AskedByTcp: 3, Rcodes: [16]uint64{3}, Names: 1}},
		{"the length by itself, and many in a packet, answered in another order", func(c *conversation) {
			c.send(t, true, withLength(t, question(1)), 2)
			c.send(t, true, withLength(t, question(2), question(3), question(4), question(5)))
			c.send(t, true, withLength(t, question(6), question(7), question(8)))
			c.send(t, false, withLength(t, answer(8)), 2)
			c.send(t, false, withLength(t, answer(1)), 1000)
			c.send(t, false, withLength(t, answer(2)))
		}, NamesDnsTotals{Asked: 8, AskedByTcp: 8, Rcodes: [16]uint64{3}, Names: 1, Waiting: 5}},
		{"sent again", func(c *conversation) {
			q, a := withLength(t, question(1)), withLength(t, answer(1))
			c.send(t, true, q)
			c.packet(t, true, c.next[1]-uint32(len(q)), false, q)
			c.send(t, false, a)
			c.packet(t, false, c.next[0]-uint32(len(a)), false, a[:most])
			c.send(t, true, withLength(t, question(2)))
		}, NamesDnsTotals{Asked: 2, AskedByTcp: 2, Rcodes: [16]uint64{1}, Names: 1, Waiting: 1}},
		{"a question in parts: nothing more is told of the questions", func(c *conversation) {
			c.send(t, true, withLength(t, question(1)), 20)
			c.send(t, true, withLength(t, question(2)))
		}, NamesDnsTotals{Unfollowed: 1}},
		{"a length in parts", func(c *conversation) { c.send(t, true, withLength(t, question(1)), 1) }, NamesDnsTotals{Unfollowed: 1}},
		{"an answer whose beginning comes late", func(c *conversation) {
			c.send(t, true, withLength(t, question(1)))
			a := withLength(t, answer(1))
			c.packet(t, false, c.next[0]+most, false, a[most:2*most])
			c.packet(t, false, c.next[0], false, a[:most])
		}, NamesDnsTotals{Asked: 1, AskedByTcp: 1, Names: 1, Waiting: 1, Unfollowed: 1}},
		{"more in a packet than are read", func(c *conversation) {
			var all []*dns.Msg
			for id := range uint16(10) {
				all = append(all, question(id))
			}
			c.send(t, true, withLength(t, all...))
		}, NamesDnsTotals{Asked: 4, AskedByTcp: 4, Names: 1, Waiting: 4, Unfollowed: 1}},
		{"no message", func(c *conversation) { c.send(t, true, []byte{0, 3, 1, 2, 3}) }, NamesDnsTotals{Unfollowed: 1}},
		{"an answer instead of a question", func(c *conversation) {
			c.send(t, true, withLength(t, answer(1)))
			c.send(t, true, withLength(t, question(2)))
		}, NamesDnsTotals{Malformed: 1, Asked: 1, AskedByTcp: 1, Names: 1, Waiting: 1}},
	} {
		o := loadNames(t)
		c.do(converse(t, o))
		if diff := cmp.Diff(c.want, streamTotals(t, o)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// A connection whose beginning was not seen is not followed.
func TestKernelOldStreamsAreLeftAlone(t *testing.T) {
	o := loadNames(t)
	c := &conversation{o: o}
	c.send(t, true, withLength(t, new(dns.Msg).SetQuestion("a.example.", dns.TypeA)))
	if diff := cmp.Diff(NamesDnsTotals{}, streamTotals(t, o)); diff != "" {
		t.Error(diff)
	}
}

// FuzzKernelStream: whatever bytes come in whatever packets, all pass, and no more is counted than there are packets and messages.
func FuzzKernelStream(f *testing.F) {
	q := withLength(f, new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))
	f.Add(q, uint64(0))
	f.Add(append(q, q...), uint64(7))
	f.Add([]byte{0, 12}, uint64(1))
	o := loadNames(f)
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		if len(data) > 1000 {
			return
		}
		before := dnsTotals(t, o)
		c := converse(t, o)
		random := rand.New(rand.NewPCG(seed, 0))
		packets := uint64(0)
		for range 8 {
			begin := random.IntN(len(data) + 1)
			end := begin + random.IntN(len(data)-begin+1)
			for _, out := range []bool{true, false} {
				c.packet(t, out, c.next[1]+uint32(begin), false, data[begin:end])
				packets++
			}
		}
		after := dnsTotals(t, o)
		asked, messages := after.AskedByTcp-before.AskedByTcp, after.Asked+after.Malformed+after.Unasked-before.Asked-before.Malformed-before.Unasked
		if asked != after.Asked-before.Asked || messages > packets*4 || after.Unfollowed-before.Unfollowed > 2 {
			t.Fatalf("%d asked by TCP of %d, %d messages in %d packets, %d lost", asked, after.Asked-before.Asked, messages, packets, after.Unfollowed-before.Unfollowed)
		}
		clearQuestions(t, o)
	})
}
