package bpftest

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

// peering loads the functions with two containers in slots 0 and 1, room for three peers in all and two of one container.
func peering(t testing.TB) (o *PeersObjects, first, second uint64) {
	t.Helper()
	spec, err := LoadPeers()
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]uint32{
		PeersMapPeers: 3, PeersMapPeerDrops: 1, PeersMapPeerSlots: 2, PeersMapConnections: 1, PeersMapAddresses: 2, PeersMapOwnersV2: 1,
	} {
		spec.Maps[name].MaxEntries = n
	}
	if err := spec.Variables[PeersVarPeersPerContainer].Set(uint64(2)); err != nil {
		t.Fatal(err)
	}
	o = &PeersObjects{}
	if err := spec.LoadAndAssign(o, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	first, second = 7<<32, 8<<32|1
	for slot, owner := range []uint64{first, second} {
		if err := o.PeerSlots.Put(uint32(slot), PeersContainerPeers{Owner: owner}); err != nil {
			t.Fatal(err)
		}
	}
	return o, first, second
}

func (o *PeersObjects) slot(t *testing.T, slot uint32) PeersContainerPeers {
	t.Helper()
	var s PeersContainerPeers
	if err := o.PeerSlots.Lookup(slot, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A container has its own peers up to its bound, and what the map has room for; all else is in its rest, and what a container
// that has ended still does is nowhere.
func TestKernelPeersFindRoomOrTheRest(t *testing.T) {
	o, first, second := peering(t)
	open := func(owner uint64, port uint16, rest uint32) (found, inRest uint32) {
		a := PeersPeerArgs{Key: PeersPeerKey{Owner: owner, Port: port, Protocol: 6}, Rest: rest}
		call(t, o.TestOpened, o.TestOpenedArgs, &a)
		return a.Found, a.Rest
	}
	for _, c := range []struct {
		owner        uint64
		port         uint16
		rest         uint32
		found, rest2 uint32
	}{
		{first, 1, 0, 1, 0}, {first, 2, 0, 1, 0}, {first, 1, 0, 1, 0},
		{first, 3, 0, 1, 1}, {first, 3, 0, 1, 1}, // the container's bound
		{first, 1, 1, 1, 1},                        // a connection stays in the rest
		{second, 1, 0, 1, 0}, {second, 2, 0, 1, 1}, // the map's
		{first + 1<<32, 1, 0, 0, 0}, {6 << 32, 1, 0, 0, 0}, {0, 1, 0, 0, 0}, {9<<32 | 5, 1, 0, 0, 0}, // other generations, none, no such slot
	} {
		if found, rest := open(c.owner, c.port, c.rest); found != c.found || rest != c.rest2 {
			t.Errorf("owner %#x port %d: found %d, in the rest %d, want %d and %d", c.owner, c.port, found, rest, c.found, c.rest2)
		}
	}
	if s := o.slot(t, 0); s.Used != 2 || s.Rest.Opened != 3 {
		t.Errorf("the first uses %d and has %d in its rest, want 2 and 3", s.Used, s.Rest.Opened)
	}
	if s := o.slot(t, 1); s.Used != 1 || s.Rest.Opened != 1 {
		t.Errorf("the second uses %d and has %d in its rest, want 1 and 1", s.Used, s.Rest.Opened)
	}
	var totals PeersPeerTotals
	if err := o.Peers.Lookup(PeersPeerKey{Owner: first, Port: 1, Protocol: 6}, &totals); err != nil || totals.Opened != 2 {
		t.Errorf("%d opened, want 2: %v", totals.Opened, err)
	}
	var dropped uint64
	if err := o.PeersDropped.Get(&dropped); err != nil || dropped != 3 {
		t.Errorf("%d found no room, want 3: %v", dropped, err)
	}
}

func TestKernelAddressesAreSomebodysOrNobodys(t *testing.T) {
	o, first, _ := peering(t)
	theirs := [16]byte{10: 0xff, 11: 0xff, 12: 10, 15: 9}
	if err := o.Addresses.Put(theirs, first); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[[16]byte]uint64{theirs: first, {15: 1}: 0} {
		a := PeersPeerArgs{Key: PeersPeerKey{Address: address, Other: 99}}
		call(t, o.TestWhose, o.TestWhoseArgs, &a)
		if a.Key.Other != want {
			t.Errorf("%v is %#x's, want %#x", address, a.Key.Other, want)
		}
	}
}

func TestKernelReasonsOfDropsAreBounded(t *testing.T) {
	o, first, _ := peering(t)
	for _, reason := range []uint64{8, 8, 9} {
		call(t, o.TestReason, o.TestReasonArgs, &PeersPeerArgs{Key: PeersPeerKey{Owner: first}, Reason: reason})
	}
	var n, dropped uint64
	err := o.PeerDrops.Lookup(PeersDropKey{Peer: PeersPeerKey{Owner: first}, Reason: 8}, &n)
	if derr := o.ReasonsDropped.Get(&dropped); err != nil || derr != nil || n != 2 || dropped != 1 {
		t.Errorf("%d for the first reason and %d without room, want 2 and 1: %v, %v", n, dropped, err, derr)
	}
	if err := o.PeerDrops.Lookup(PeersDropKey{Peer: PeersPeerKey{Owner: first}, Reason: 9}, &n); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the second reason: %v", err)
	}
}

// The bytes of datagrams are those of programs, without headers; what is no datagram, or a later part of one, is none.
func TestKernelDatagramsAreCountedByPeer(t *testing.T) {
	o, first, _ := peering(t)
	for _, f := range [][]byte{
		frame(40000, 9, false, make([]byte, 100)), frame(40000, 9, false, make([]byte, 50)), frame(40000, 9, false, nil),
		frame(40000, 9, true, make([]byte, 7)),
	} {
		pass(t, o.TestSent, f)
		tcp, later := slices.Clone(f), slices.Clone(f)
		if f[12] == 8 {
			tcp[14+9], later[14+7] = 6, 8
		} else {
			tcp[14+6], later[14+6] = 6, 44 // extension header of a fragment
		}
		pass(t, o.TestSent, tcp)
		pass(t, o.TestReceived, later)
	}
	pass(t, o.TestReceived, frame(9, 40000, false, make([]byte, 30)))
	local := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
	for address, want := range map[[16]byte]PeersPeerTotals{
		local:   {SentDatagrams: 3, SentBytes: 150, ReceivedDatagrams: 1, ReceivedBytes: 30},
		{15: 1}: {SentDatagrams: 1, SentBytes: 7},
	} {
		var got PeersPeerTotals
		if err := o.Peers.Lookup(PeersPeerKey{Owner: first, Address: address, Port: 9, Protocol: 17}, &got); err != nil || got != want {
			t.Errorf("%v: %+v, want %+v: %v", address, got, want, err)
		}
	}
}

// BenchmarkKernelDatagram tells what packets of a container cost, without the way to the program and the look for the owner.
func BenchmarkKernelDatagram(b *testing.B) {
	o, _, _ := peering(b)
	tcp := frame(40000, 443, false, make([]byte, 100))
	tcp[14+9] = 6
	for name, data := range map[string][]byte{"tcp": tcp, "udp": frame(40000, 443, false, make([]byte, 100))} {
		_, each, err := o.TestSent.Benchmark(data, 200_000, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(each.Nanoseconds()), name+"-ns")
	}
	b.ReportMetric(0, "ns/op")
}
