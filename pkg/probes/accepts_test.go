package probes

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// acceptorMode is what the test binary is when it was started with this: it listens, tells the port, and for each line of its
// input, a duration, sleeps for so long and accepts then. It tells accepted.
const acceptorMode = "acceptor"

// acceptorMain does not return when the test binary was started as one.
func acceptorMain() {
	if len(os.Args) != 2 || os.Args[1] != acceptorMode {
		return
	}
	if err := acceptor(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func acceptor() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		pause, err := time.ParseDuration(in.Text())
		if err != nil {
			return err
		}
		time.Sleep(pause) // the known delay
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Println("accepted")
		c.Close()
	}
	return nil
}

// A server sleeps for a known time before it accepts: connections wait for that long at least, and at most from before they
// are opened until the server has told that it accepted them. Those that a client gave up meanwhile, and those of a stranger's
// server, are not the container's.
func TestKernelAcceptDelayIsTheServers(t *testing.T) {
	p := open(t, Config{Network: true})
	key, cg := watch(t, p)
	server, stranger := start(t, childCgroup(t, cg), "/proc/self/exe", acceptorMode), start(t, cgroup{}, "/proc/self/exe", acceptorMode)
	var least, most time.Duration
	connect := func(s *process, port uint64, pause time.Duration) time.Duration {
		t.Helper()
		began := time.Now()
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintln(s.in, pause)
		if said, err := s.out.ReadString('\n'); err != nil || said != "accepted\n" {
			t.Fatalf("server said %q, %v", said, err)
		}
		return time.Since(began)
	}
	port, strangers := server.number(t), stranger.number(t)
	pauses := []time.Duration{0, 20 * time.Millisecond, 120 * time.Millisecond, 300 * time.Millisecond}
	for _, pause := range pauses {
		most += connect(server, port, pause)
		least += pause
		connect(stranger, strangers, pause/4)
	}
	accept := health(t, p, key).Accept
	t.Logf("%d accepts, %v; server slept %v, clients %v", accept.Count(), time.Duration(accept.SumNs), least, most)
	if sum := time.Duration(accept.SumNs); accept.Count() != uint64(len(pauses)) || sum < least || sum > most {
		t.Errorf("%d accepts waited %v, want %d and between %v and %v", accept.Count(), sum, len(pauses), least, most)
	}
	var left uint64
	var address uint64
	for it := p.kernel.maps["accept_queue"].Iterate(); it.Next(&address, new([16]byte)); {
		left++
	}
	if left != 0 {
		t.Errorf("%d connections are in the queue still", left)
	}
}
