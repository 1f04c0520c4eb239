package bpftest

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const namesOwner = 1 << 32

func loadNames(t testing.TB) *NamesObjects {
	t.Helper()
	var o NamesObjects
	if err := LoadNamesObjects(&o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return &o
}

// frame is an Ethernet frame with a datagram; six: of IPv6.
func frame(from, to uint16, six bool, message []byte) []byte {
	b := make([]byte, 12, 64+len(message))
	length := uint16(8 + len(message))
	if six {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(b, 17, 64)
		b = append(b, make([]byte, 32)...)
		b[len(b)-1], b[len(b)-17] = 1, 1 // both are ::1
	} else {
		b = append(b, 0x08, 0x00, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, 20+length)
		b = append(b, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1)
	}
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, length)
	return append(append(b, 0, 0), message...)
}

// segment is an Ethernet frame with a segment of TCP.
func segment(from, to uint16, seq uint32, syn bool, data []byte) []byte {
	b := frame(from, to, false, nil)
	binary.BigEndian.PutUint16(b[16:], uint16(40+len(data)))
	b[23] = 6
	b = binary.BigEndian.AppendUint32(b[:38], seq)
	b = append(b, 0, 0, 0, 0, 5<<4, 0, 0, 0, 0, 0, 0, 0)
	if syn {
		b[47] = 2
	}
	return append(b, data...)
}

// pass runs a program on a frame, which it must let pass.
func pass(t testing.TB, prog *ebpf.Program, frame []byte) {
	t.Helper()
	verdict, err := prog.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	if verdict != 0 { // BPF_OK
		t.Fatalf("verdict %d: the packet is dropped", verdict)
	}
}

func dnsTotals(t testing.TB, o *NamesObjects) NamesDnsTotals {
	t.Helper()
	var totals NamesDnsTotals
	if err := o.Dns.Lookup(uint32(0), &totals); err != nil {
		t.Fatal(err)
	}
	return totals
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wireName is a name as the programs keep it.
func wireName(t testing.TB, name string) (words [32]uint64) {
	t.Helper()
	var b [256]byte
	if _, err := dns.PackDomainName(strings.ToLower(name), b[:], 0, nil, false); err != nil {
		t.Fatal(err)
	}
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return words
}

// longName has 255 bytes on the wire, all letters large.
var longName = strings.Repeat(strings.Repeat("AZ[@`{az", 7)+".", 4) + strings.Repeat("Z", 25) + "."

func TestKernelQuestionsMeetTheirAnswers(t *testing.T) {
	for _, six := range []bool{false, true} {
		o := loadNames(t)
		for i, name := range []string{"Example.ORG.", ".", longName, `A\000\255b.`} {
			q := new(dns.Msg).SetQuestion(name, dns.TypeAAAA)
			q.Id = uint16(i)
			pass(t, o.TestOut, frame(40000, 53, six, packed(t, q)))
			a := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			a.Truncated = true
			pass(t, o.TestIn, frame(53, 40000, six, packed(t, a)))
			var c NamesNameCounts
			if err := o.Names.Lookup(NamesQuestion{Owner: namesOwner, Name: wireName(t, name), Type: uint32(dns.TypeAAAA)}, &c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.SumNs = 0
			if diff := cmp.Diff(NamesNameCounts{Asked: 1, Answered: 1, Missing: 1}, c); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		totals := dnsTotals(t, o)
		var timed uint64
		for _, n := range totals.Latency {
			timed += n
		}
		if totals.LatencySumNs == 0 || timed != 4 {
			t.Errorf("%d answers are timed, %d ns", timed, totals.LatencySumNs)
		}
		totals.LatencySumNs, totals.Latency = 0, [145]uint64{}
		want := NamesDnsTotals{Asked: 4, Truncated: 4, Names: 4}
		want.Rcodes[dns.RcodeNameError] = 4
		if diff := cmp.Diff(want, totals); diff != "" {
			t.Errorf("totals (-want +got):\n%s", diff)
		}
	}
}

func TestKernelAnswersToNothingAreCounted(t *testing.T) {
	o := loadNames(t)
	q := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	forged := new(dns.Msg).SetQuestion("b.example.", dns.TypeA)
	forged.Id, forged.Response = q.Id, true
	bare := &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Rcode: dns.RcodeFormatError}}
	update := new(dns.Msg).SetUpdate("example.")
	out := func(m *dns.Msg) { pass(t, o.TestOut, frame(40000, 53, false, packed(t, m))) }
	in := func(m *dns.Msg) { pass(t, o.TestIn, frame(53, 40000, false, packed(t, m))) }
	out(q)
	in(forged)
	in(bare) // it repeats no question
	in(bare) // and comes again
	out(q)
	out(q) // asked again
	out(update)
	pass(t, o.TestOut, frame(40000, 54, false, packed(t, q)))
	pass(t, o.TestIn, frame(40000, 53, false, packed(t, q))) // somebody asks the container
	totals := dnsTotals(t, o)
	totals.LatencySumNs, totals.Latency = 0, [145]uint64{}
	want := NamesDnsTotals{Asked: 3, Unasked: 2, Unanswered: 1, Waiting: 1, Names: 1}
	want.Rcodes[dns.RcodeFormatError] = 1
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

// FuzzKernelMessage: whatever is sent as a question passes, and is counted once at most; what is counted as a question has the
// name that another reader of it finds.
func FuzzKernelMessage(f *testing.F) {
	q := new(dns.Msg).SetQuestion("www.Example.org.", dns.TypeA)
	f.Add(packed(f, q))
	f.Add(packed(f, new(dns.Msg).SetQuestion(longName, dns.TypeTXT)))
	f.Add(append(make([]byte, 12), 0xc0, 12, 0, 1, 0, 1))
	f.Add([]byte{})
	o := loadNames(f)
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1400 {
			return
		}
		before := dnsTotals(t, o)
		pass(t, o.TestOut, frame(40000, 53, false, message))
		pass(t, o.TestIn, frame(53, 40000, true, message))
		after := dnsTotals(t, o)
		asked, malformed := after.Asked-before.Asked, after.Malformed-before.Malformed
		if asked > 1 || malformed > 2 || asked+malformed+after.Unasked-before.Unasked > 2 {
			t.Fatalf("%d questions, %d malformed", asked, malformed)
		}
		if asked == 1 {
			name, end, err := dns.UnpackDomainName(message, 12)
			if err != nil {
				t.Fatalf("a question, though its name is none: %v", err)
			}
			key := NamesQuestion{Owner: namesOwner, Name: wireName(t, name), Type: uint32(binary.BigEndian.Uint16(message[end:]))}
			var c NamesNameCounts
			if after.Unnamed == before.Unnamed {
				if err := o.Names.LookupAndDelete(key, &c); err != nil || c.Asked != 1 {
					t.Fatalf("%s is counted %d times: %v", name, c.Asked, err)
				}
			}
		}
		clearQuestions(t, o)
	})
}

// clearQuestions lets none wait.
func clearQuestions(t testing.TB, o *NamesObjects) {
	t.Helper()
	var w NamesWaitingKey
	var keys []NamesWaitingKey
	for it := o.Questions.Iterate(); it.Next(&w, new(NamesWaiting)); {
		keys = append(keys, w)
	}
	for _, k := range keys {
		if err := o.Questions.Delete(k); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkKernelPacket tells what a packet of a container costs, without the way to the program: one of TCP, another
// datagram, and a question that is asked again and again.
func BenchmarkKernelPacket(b *testing.B) {
	o := loadNames(b)
	tcp := frame(40000, 443, false, make([]byte, 100))
	tcp[14+9] = 6
	converse(b, o)
	for name, data := range map[string][]byte{
		"tcp": tcp, "stream": segment(40000, 53, 1<<32-40, false, make([]byte, 100)), "udp": frame(40000, 443, false, make([]byte, 100)),
		"question": frame(40000, 53, false, packed(b, new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))),
	} {
		_, each, err := o.TestOut.Benchmark(data, 200_000, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(each.Nanoseconds()), name+"-ns")
	}
	b.ReportMetric(0, "ns/op")
}
