package bpftest

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Of enum off_cpu_reason in bpf/reasons.h.
const (
	waitDisk = iota
	waitNetwork
	waitLock
	waitSleep
	waitPoll
	waitPipe
	waitFault
	waitChild
	waitOther
	waitByFile = 255
)

// toAsk is TO_ASK of bpf/offcpu.h.
const toAsk = 255

// fileOf opens a file and returns its descriptor, until the test ends.
func fileOf(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return uint64(f.Fd())
}

// descriptors opens a pipe, a socket and an eventfd.
func descriptors(t *testing.T) (pipe, socket, event uint64) {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fd := range []int{ends[0], ends[1], s, e} {
			unix.Close(fd)
		}
	})
	return uint64(ends[0]), uint64(s), uint64(e)
}

// What a call on a descriptor waits for is what the descriptor is of; other calls have their reason by themselves, and the
// kernel's mark of who waits for a device goes before both, but for calls that wait for other calls' ends.
func TestKernelReasonsOfWaits(t *testing.T) {
	o := load(t, 1)
	pipe, socket, event := descriptors(t)
	file, folder, null := fileOf(t, "/proc/self/exe"), fileOf(t, "/"), fileOf(t, "/dev/null")
	none := ^uint64(0)
	for name, c := range map[string]struct {
		fd            uint64
		table, device uint32
		want          uint32
	}{
		"a pipe":                     {pipe, waitByFile, 0, waitPipe},
		"a socket":                   {socket, waitByFile, 0, waitNetwork},
		"a file":                     {file, waitByFile, 0, waitDisk},
		"a folder":                   {folder, waitByFile, 0, waitDisk},
		"a character device":         {null, waitByFile, 0, waitOther},
		"an eventfd":                 {event, waitByFile, 0, waitPoll},
		"no descriptor":              {none, waitByFile, 0, waitPoll},
		"futex":                      {none, waitLock, 0, waitLock},
		"nanosleep on a pipe":        {pipe, waitSleep, 0, waitSleep},
		"a socket with a device":     {socket, waitByFile, 1, waitDisk},
		"a lock with a device":       {none, waitLock, 1, waitDisk},
		"io_uring with a device":     {none, waitPoll, 1, waitPoll},
		"waiting for a child":        {none, waitChild, 0, waitChild},
		"what the table has as none": {none, waitOther, 0, waitOther},
	} {
		a := FunctionsReasonArgs{Fd: c.fd, Table: c.table, Device: c.device}
		call(t, o.TestReason, o.TestReasonArgs, &a)
		if a.Why != c.want {
			t.Errorf("%s: reason %d, want %d (mode %o)", name, a.Why, c.want, a.Mode)
		}
	}
}

// A wait lasts from where the task left the CPU until it was back, less what it waited for the CPU; it has the reason that was
// noted when it left, or is for other things where nobody saw the task get the CPU. Without a reason, and where the clocks contradict
// each other, nothing is added.
func TestKernelWaitsLastUntilTheTaskIsBack(t *testing.T) {
	o := load(t, 1)
	want := map[int]uint64{}
	for _, c := range []struct {
		args  FunctionsOffCpuArgs
		added uint64
	}{
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, RanNs: 50, WaitNs: 0, Waits: 1 + waitSleep}, 1000},
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, RanNs: 50, WaitNs: 300, Waits: 1 + waitSleep}, 700},
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, RanNs: 50, WaitNs: 300, Waits: 1 + waitFault}, 700},
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, RanNs: 50, Waits: 0}, 0},
		{FunctionsOffCpuArgs{LeftNs: 1000, ArrivalNs: 1100, WaitNs: 300, Waits: 1 + waitDisk}, 0},
		{FunctionsOffCpuArgs{LeftNs: 2000, ArrivalNs: 1100, Waits: 1 + waitDisk}, 0},
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, Waits: 1 + waitOther + 1}, 0}, // no reason at all
		{FunctionsOffCpuArgs{LeftNs: 100, ArrivalNs: 1100, Waits: toAsk}, 1000},
	} {
		a := c.args
		call(t, o.TestOffCpu, o.TestOffCpuArgs, &a)
		if a.LeftNs != c.args.ArrivalNs+c.args.RanNs {
			t.Errorf("%+v: left at %d", c.args, a.LeftNs)
		}
		switch {
		case c.args.Waits == toAsk:
			want[waitOther] += c.added
		case c.added > 0:
			want[int(c.args.Waits)-1] += c.added
		}
	}
	for reason, got := range slot(t, o, 0).OffCpuNs {
		if got != want[reason] {
			t.Errorf("reason %d has %d ns, want %d", reason, got, want[reason])
		}
	}
}

// Why a task waited is asked for each wait of 50 us and more; shorter ones have the reason of one of them, for a millisecond.
func TestKernelShortWaitsAreAskedForOnceInAMillisecond(t *testing.T) {
	const us = 1000
	const at, inCall, kept = 10_000, 1 + waitDisk, 1 + waitPipe // the object's table of calls has but zeros
	const now = at * 1024
	o := load(t, 1)
	for name, c := range map[string]struct{ args, want FunctionsEndArgs }{
		"a long wait": {
			FunctionsEndArgs{LeftNs: now - 50*us, AskedAt: at - 1, Asked: kept, Waits: toAsk},
			FunctionsEndArgs{AskedAt: at - 1, Asked: kept, Waits: inCall}},
		"a short one, just asked": {
			FunctionsEndArgs{LeftNs: now - 49*us, AskedAt: at - 999, Asked: kept, Waits: toAsk},
			FunctionsEndArgs{AskedAt: at - 999, Asked: kept, Waits: kept}},
		"a short one, asked long ago": {
			FunctionsEndArgs{LeftNs: now - 49*us, AskedAt: at - 1000, Asked: kept, Waits: toAsk},
			FunctionsEndArgs{AskedAt: at, Asked: inCall, Waits: inCall}},
		"a short one, never asked": {
			FunctionsEndArgs{LeftNs: now - 1, AskedAt: at, Waits: toAsk},
			FunctionsEndArgs{AskedAt: at, Asked: inCall, Waits: inCall}},
		"clocks that contradict each other": {
			FunctionsEndArgs{LeftNs: now + 1, AskedAt: at, Asked: kept, Waits: toAsk},
			FunctionsEndArgs{AskedAt: at, Asked: kept, Waits: inCall}},
		"no wait": {
			FunctionsEndArgs{LeftNs: now - us, AskedAt: at, Asked: kept},
			FunctionsEndArgs{AskedAt: at, Asked: kept}},
		"known already": {
			FunctionsEndArgs{LeftNs: now - us, Waits: 1 + waitOther},
			FunctionsEndArgs{Waits: 1 + waitOther}},
	} {
		c.args.WokenNs = now
		got := c.args
		call(t, o.TestEndWait, o.TestEndWaitArgs, &got)
		c.want.LeftNs, c.want.WokenNs = c.args.LeftNs, now
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A connection waits from when it was noted until accept returned its descriptor to a task of the container that listens; it is
// counted once, and never for another container.
func TestKernelAcceptsEndTheWaitOfTheirConnection(t *testing.T) {
	const second, owner, stranger = 1_000_000_000, 1<<32 | 1, 2 << 32
	o := load(t, 1)
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	connection, err := l.File() // any socket is one to the queue
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	socket := uint64(connection.Fd())
	pipe, _, _ := descriptors(t)
	for _, c := range []struct {
		name            string
		queuedBy, takes uint64
		fd              uint64
		counted         uint64
		left            int
	}{
		{"another container's", stranger, owner, socket, 0, 0},
		{"its own", owner, owner, socket, 1, 0},
		{"a pipe", owner, owner, pipe, 1, 1},
		{"no descriptor", owner, owner, ^uint64(0), 1, 1},
	} {
		queue := FunctionsAcceptArgs{Owner: c.queuedBy, Fd: socket, AgeNs: second}
		call(t, o.TestQueue, o.TestQueueArgs, &queue)
		for range 2 { // the second time there is nothing to be taken
			take := FunctionsAcceptArgs{Owner: c.takes, Fd: c.fd}
			call(t, o.TestTaken, o.TestTakenArgs, &take)
		}
		var d FunctionsAcceptDelay
		if err := o.AcceptDelays.Lookup(uint32(owner&0xffffffff), &d); err != nil {
			t.Fatal(err)
		}
		var n uint64
		for _, in := range d.Buckets {
			n += in
		}
		if n != c.counted || d.SumNs < n*second || d.SumNs > n*60*second {
			t.Errorf("%s: %d counted, %d ns", c.name, n, d.SumNs)
		}
		left := 0
		var address uint64
		for entries := o.AcceptQueue.Iterate(); entries.Next(&address, new(FunctionsQueued)); {
			left++
		}
		if left != c.left {
			t.Errorf("%s: %d connections wait still, want %d", c.name, left, c.left)
		}
	}
}
