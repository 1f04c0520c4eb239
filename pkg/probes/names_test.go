package probes

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/tritond/triton/pkg/triton"
)

// askerMode is what the test binary is when it was started with this, a network and a server's address: for each line "ID NAME TYPE" of its
// input it asks and tells the code of the answer and the nanoseconds it took, or none when there was no answer for 0.2 s; of
// a line "raw HEX" it sends the bytes and tells sent.
const askerMode = "asker"

// askerMain does not return when the test binary was started as one.
func askerMain() {
	if len(os.Args) != 4 || os.Args[1] != askerMode {
		return
	}
	if err := asker(os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func asker(network, server string) error {
	conn, err := net.Dial(network, server)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.Fields(in.Text())
		if f[0] == "raw" {
			b, err := hex.DecodeString(strings.Join(f[1:], ""))
			if err != nil {
				return err
			}
			if _, err := conn.Write(b); err != nil {
				return err
			}
			fmt.Println("sent")
			continue
		}
		m := new(dns.Msg)
		m.SetQuestion(f[1], dns.StringToType[f[2]])
		if _, err := fmt.Sscan(f[0], &m.Id); err != nil {
			return err
		}
		if err := askOnce(c, m); err != nil {
			return err
		}
	}
	return nil
}

func askOnce(c *dns.Conn, m *dns.Msg) error {
	began := time.Now()
	if err := c.WriteMsg(m); err != nil {
		return err
	}
	if err := c.SetReadDeadline(began.Add(200 * time.Millisecond)); err != nil {
		return err
	}
	got, err := c.ReadMsg()
	took := time.Since(began)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		fmt.Println("none 0")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Println(dns.RcodeToString[got.Rcode], took.Nanoseconds())
	return nil
}

// nameServer answers with the code of the name's first label (nxdomain.…), not at all where that is "never", after delay;
// its log is the witness.
type nameServer struct {
	address string
	delay   time.Duration

	mu  sync.Mutex
	log map[string]int // by "NAME TYPE"
}

func startNameServer(t *testing.T, delay time.Duration) *nameServer {
	t.Helper()
	var pc net.PacketConn
	for try := 0; ; try++ { // port 53 of an address of the loopback that nobody else has
		var err error
		address := fmt.Sprintf("127.%d.%d.%d:53", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
		if pc, err = net.ListenPacket("udp4", address); err == nil {
			break
		} else if try == 10 {
			t.Fatal(err)
		}
	}
	s := &nameServer{address: pc.LocalAddr().String(), delay: delay, log: map[string]int{}}
	l, err := net.Listen("tcp4", s.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		go server.ActivateAndServe()
		t.Cleanup(func() { server.Shutdown() })
	}
	return s
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	s.mu.Lock()
	s.log[strings.ToLower(q.Name)+" "+dns.TypeToString[q.Qtype]]++
	s.mu.Unlock()
	first, _, _ := strings.Cut(strings.ToLower(q.Name), ".")
	if first == "never" {
		return
	}
	<-time.After(s.delay) // the known delay
	a := new(dns.Msg)
	a.SetRcode(m, dns.StringToRcode[strings.ToUpper(first)])
	w.WriteMsg(a)
}

// askIn starts an asker in a cgroup.
func askIn(t *testing.T, cg cgroup, server string) *process {
	t.Helper()
	return start(t, cg, "/proc/self/exe", askerMode, "udp4", server)
}

// ask returns the code and the time that the asker saw.
func (p *process) ask(t *testing.T, line string) (code string, took time.Duration) {
	t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(line, "raw") {
		if said, err := p.out.ReadString('\n'); err != nil || said != "sent\n" {
			t.Fatalf("asker said %q, %v", said, err)
		}
		return "", 0
	}
	if _, err := fmt.Fscanln(p.out, &code, &took); err != nil {
		t.Fatal(err)
	}
	return code, took
}

func openNames(t *testing.T) (*Probes, triton.ContainerKey, cgroup) {
	t.Helper()
	p := open(t, Config{Level: Off})
	key, cg := watch(t, p)
	if err := p.WatchNames(filepath.Dir(cg.dir)); err != nil {
		t.Fatal(err)
	}
	return p, key, cg
}

func askedNames(t *testing.T, p *Probes, key triton.ContainerKey) (triton.NameService, triton.AskedNames) {
	t.Helper()
	s, names, err := p.AskedNames(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, names
}

// By both protocols the witnesses are the server's log, what it was told to answer, its delay, and the client's clock: the kernel cannot
// have seen an answer before the delay was over, nor taken longer than the client waited.
func TestKernelNamesAreTheServersLog(t *testing.T) {
	for _, network := range []string{"udp4", "tcp4"} {
		t.Run(network, func(t *testing.T) { namesAreTheServersLog(t, network) })
	}
}

func namesAreTheServersLog(t *testing.T, network string) {
	const delay = 15 * time.Millisecond
	server := startNameServer(t, delay)
	p, key, cg := openNames(t)
	client := start(t, childCgroup(t, cg), "/proc/self/exe", askerMode, network, server.address) // nested: it is the container's
	stranger := start(t, cgroup{}, "/proc/self/exe", askerMode, network, server.address)
	codes := map[string]uint64{}
	var longest time.Duration
	questions := []string{
		"noerror.example. A", "NoError.EXAMPLE. A", "noerror.example. AAAA", "nxdomain.example. A", "servfail.example. TXT",
		"refused.a-rather-long-label-that-goes-on-and-on.and.many.more.labels.to.follow.example. SRV", "noerror. NS",
	}
	asked := 0
	for range 5 {
		for _, q := range questions {
			asked++
			code, took := client.ask(t, fmt.Sprintf("%d %s", asked, q))
			codes[code]++
			longest += took
		}
		stranger.ask(t, "7 noerror.stranger. A")
	}
	s, names := askedNames(t, p, key)
	if diff := cmp.Diff(codes, s.Answers); diff != "" {
		t.Errorf("answers (-client +probes):\n%s", diff)
	}
	n, byTCP := uint64(asked), uint64(0)
	if network == "tcp4" {
		byTCP = n
	}
	if s.Asked != n || s.AskedTCP != byTCP || s.Unfollowed != 0 || s.RoundTrip.Count() != n || s.Unanswered+s.Untimed+s.Unasked+s.Malformed+s.Unnamed+s.Truncated != 0 {
		t.Errorf("%+v, want %d asked and answered", s, n)
	}
	sum := time.Duration(s.RoundTrip.SumNs)
	t.Logf("%d questions: %v by the probes, %v by the client, delays of %v", n, sum, longest, time.Duration(n)*delay)
	if sum < time.Duration(n)*delay || sum > longest {
		t.Errorf("round trips of %v, want between %v and %v", sum, time.Duration(n)*delay, longest)
	}
	got := map[string]int{"noerror.stranger. A": 5}
	for _, name := range names.Names {
		got[name.Name+" "+name.Type] = int(name.Asked)
		if name.Answered != name.Asked || name.Wait < delay*time.Duration(name.Asked) || time.Since(name.Last) > deadline {
			t.Errorf("%+v", name)
		}
		if missing := strings.HasPrefix(name.Name, "nxdomain"); missing != (name.Missing == name.Asked) || missing && name.Failed != 0 {
			t.Errorf("%+v", name)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if diff := cmp.Diff(server.log, got); diff != "" || names.Other != 0 {
		t.Errorf("names (-server +probes), other %d:\n%s", names.Other, diff)
	}
}

// A question that gets no answer counts when it is asked again, and when NameTimeout is over.
func TestKernelUnansweredQuestionsAreCounted(t *testing.T) {
	server := startNameServer(t, 0)
	p, key, cg := openNames(t)
	client := askIn(t, cg, server.address)
	for _, line := range []string{"1 never.example. A", "1 never.example. A", "2 never.example. A"} {
		if code, _ := client.ask(t, line); code != "none" {
			t.Fatalf("answered with %s", code)
		}
	}
	s, _ := askedNames(t, p, key)
	if s.Asked != 3 || s.Unanswered != 1 {
		t.Errorf("%d asked, %d unanswered, want 3 and the one that was asked again", s.Asked, s.Unanswered)
	}
	run(t, p) // which looks now and then
	eventually(t, "the others are given up", func() bool { return p.NameService()[key].Unanswered == 3 })
	if n := p.names.totals.at(0).Waiting; n != 0 {
		t.Errorf("%d questions wait still", n)
	}
	if _, names := askedNames(t, p, key); len(names.Names) != 1 || names.Names[0].Unanswered != 3 {
		t.Errorf("%+v", names)
	}
	if _, err := p.Unwatch(key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing of the container is left", func() bool {
		p.names.mu.Lock()
		defer p.names.mu.Unlock()
		return len(p.names.asked) == 0
	})
}

// What a container sends is hostile: it fills no more than its own part, and what was not counted is.
func TestKernelHostileQuestionsAreBounded(t *testing.T) {
	server := startNameServer(t, 0)
	p, key, cg := openNames(t)
	client := askIn(t, cg, server.address)
	const flood = 2000
	for i := range flood { // an id, a query, one question: "xxxxxxxx." A
		client.ask(t, fmt.Sprintf("raw %04x 0100 0001 0000 0000 0000 08 %x 00 0001 0001", i, fmt.Sprintf("%08d", i)))
	}
	garbage := []string{
		"00", "0001 8000 0001 0000 0000 0000 00 0001 0001", "0001 0100 0002 0000 0000 0000 00 0001 0001",
		"0001 0100 0001 0000 0000 0000 c00c 0001 0001", "0001 0100 0001 0000 0000 0000 3f61", "0001 0100 0001 0000 0000 0000 00 00",
		"0001 0100 0001 0000 0000 0000 " + strings.Repeat("01 61", 130) + " 00 0001 0001",
	}
	for _, g := range garbage {
		client.ask(t, "raw "+g)
	}
	s, names := askedNames(t, p, key)
	t.Logf("%+v, %d names", s, len(names.Names))
	if s.Asked != flood || s.Malformed != uint64(len(garbage)) {
		t.Errorf("%d asked, %d malformed, want %d and %d", s.Asked, s.Malformed, flood, len(garbage))
	}
	if waits := p.names.totals.at(0).Waiting; waits > 256 || waits+s.Untimed+s.RoundTrip.Count() != flood || s.Unnamed < flood-1000 {
		t.Errorf("%d wait, %d are not timed, %d are answered, %d found no room among the names", waits, s.Untimed, s.RoundTrip.Count(), s.Unnamed)
	}
	if len(names.Names) != namesKept || names.Other != flood-namesKept {
		t.Errorf("%d names, %d other questions", len(names.Names), names.Other)
	}
	other, cg2 := newKey(), childCgroup(t, cgroup{dir: filepath.Dir(cg.dir)})
	if _, err := p.Watch(other, CgroupIDs{V2: cg2.id}); err != nil {
		t.Fatal(err)
	}
	if code, _ := askIn(t, cg2, server.address).ask(t, "1 noerror.example. A"); code != "NOERROR" {
		t.Fatalf("the neighbour got %s", code)
	}
	if s, names := askedNames(t, p, other); s.Answers["NOERROR"] != 1 || len(names.Names) != 1 {
		t.Errorf("the neighbour has %+v, %+v", s, names)
	}
}
