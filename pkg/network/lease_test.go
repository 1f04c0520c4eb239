package network

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestRangeStaysBelow32Bits(t *testing.T) {
	blocks := map[uint32]bool{}
	for c := range 300 {
		instance := string(rune('a' + c))
		first, last := Range(instance, 0), Range(instance, blockSlots-1)
		if want := first.Base + (blockSlots-1)*rangeSize; last.Base != want {
			t.Fatalf("last range of the first block: got %d, want %d", last.Base, want)
		}
		seen := map[uint32]bool{}
		for slot := range slots {
			r := Range(instance, slot)
			if end := uint64(r.Base) + uint64(r.Size) - 1; end > math.MaxUint32 || r.Base < rangeBase || seen[r.Base] {
				t.Fatalf("slot %d: range %d to %d is out of bounds, or another's", slot, r.Base, end)
			}
			seen[r.Base] = true
		}
		blocks[first.Base] = true
	}
	if len(blocks) != rangeBlocks {
		t.Errorf("blocks used: got %d, want %d", len(blocks), rangeBlocks)
	}
	// The formula is fixed: ids are on disk.
	if got, want := Range("x", 3), (triton.IDRange{Base: 0x10000000 + 39*1024*65536 + 3*65536, Size: 65536}); got != want {
		t.Errorf("range: got %+v, want %+v", got, want)
	}
}

func TestLeasesComeUpAgainLast(t *testing.T) {
	l := newLeases(netip.MustParsePrefix("10.0.0.0/29"))
	var got []string
	for i := range 8 {
		slot, addr, err := l.takeSlot("tv0")
		if err != nil {
			t.Fatal(err)
		}
		if slot != i {
			t.Errorf("slot: got %d, want %d", slot, i)
		}
		got = append(got, addr.String())
		l.free(slot)
	}
	want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestLeasesRefuseWhatIsTaken(t *testing.T) {
	l := newLeases(netip.MustParsePrefix("10.0.0.0/24"))
	c := claim{link: "tv1", addr: netip.MustParseAddr("10.0.0.2")}
	if err := l.reserve(0, c); err != nil {
		t.Fatal(err)
	}
	if err := l.reserve(0, c); err != nil {
		t.Errorf("the same again: got %v, want nil", err)
	}
	other := claim{link: "tv2", addr: netip.MustParseAddr("10.0.0.3")}
	for _, tc := range []struct {
		name string
		slot int
		c    claim
		kind func(error) bool
	}{
		{"slot of another", 0, other, errdefs.IsAlreadyExists},
		{"address of another", 1, claim{link: "tv2", addr: c.addr}, errdefs.IsAlreadyExists},
		{"gateway", 5, claim{link: "tv2", addr: netip.MustParseAddr("10.0.0.1")}, errdefs.IsInvalidArgument},
		{"broadcast", 6, claim{link: "tv2", addr: netip.MustParseAddr("10.0.0.255")}, errdefs.IsInvalidArgument},
		{"other subnet", 7, claim{link: "tv2", addr: netip.MustParseAddr("10.0.1.2")}, errdefs.IsInvalidArgument},
		{"other subnet again", 7, claim{link: "tv2", addr: netip.MustParseAddr("10.0.1.2")}, errdefs.IsInvalidArgument},
		{"no such slot", slots, other, errdefs.IsInvalidArgument},
		{"no pair", -1, other, errdefs.IsInvalidArgument},
	} {
		if err := l.reserve(tc.slot, tc.c); !tc.kind(err) {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	slot, addr, err := l.takeSlot("tv3")
	if err != nil || slot != 1 || addr.String() != "10.0.0.3" {
		t.Errorf("next: got %d %s (%v), want 1 10.0.0.3", slot, addr, err)
	}
}

func TestLeasesHaveAnAddressForEachSlot(t *testing.T) {
	l := newLeases(netip.MustParsePrefix("10.0.0.0/16"))
	for range slots {
		if _, _, err := l.takeSlot("tv0"); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"tv0", ""} {
		if _, _, err := l.takeSlot(link); !errdefs.IsResourceExhausted(err) {
			t.Errorf("link %q: got %v, want that all slots are in use", link, err)
		}
	}
}

func TestPoolRunsOutOfAddresses(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.0.0/28"), netip.Prefix{})
	for range 14 {
		if _, err := p.take(netip.Addr{}); err != nil {
			t.Fatal(err)
		}
	}
	full := func(when string) {
		t.Helper()
		if _, err := p.take(netip.Addr{}); !errdefs.IsResourceExhausted(err) {
			t.Errorf("%s: got %v, want that no address is left", when, err)
		}
	}
	full("all are taken")
	some := netip.MustParseAddr("10.1.0.9")
	p.put(some)
	p.put(some) // twice gives back one
	if got, err := p.take(netip.Addr{}); err != nil || got != some {
		t.Errorf("after one has left: got %s (%v), want %s", got, err, some)
	}
	full("taken again")
}

func TestPoolsOfBothFamilies(t *testing.T) {
	for _, tc := range []struct {
		subnet, part string
		want         string // the first three, the gateway left out
	}{
		{"10.1.0.0/24", "", "10.1.0.2 10.1.0.3 10.1.0.4"},
		{"10.1.0.0/24", "10.1.0.252/30", "10.1.0.252 10.1.0.253 10.1.0.254"},
		{"fd00::/64", "", "fd00::2 fd00::3 fd00::4"},
		{"fd00::/64", "fd00::ffff:ffff:ffff:fffd/127", "fd00::ffff:ffff:ffff:fffc fd00::ffff:ffff:ffff:fffd none"},
		{"fd00::/125", "", "fd00::2 fd00::3 fd00::4"},
		{"fd00::/16", "fd00:0:0:1::/64", "fd00:0:0:1:: fd00:0:0:1::1 fd00:0:0:1::2"},
	} {
		subnet, part := netip.MustParsePrefix(tc.subnet), netip.Prefix{}
		if tc.part != "" {
			part = netip.MustParsePrefix(tc.part)
		}
		p := newPool(subnet, part, addressAt(subnet, 1))
		var got []string
		for range 3 {
			a, err := p.take(netip.Addr{})
			if err != nil {
				got = append(got, "none")
				continue
			}
			got = append(got, a.String())
		}
		if all := strings.Join(got, " "); all != tc.want {
			t.Errorf("%s of %s: got %s, want %s", tc.part, tc.subnet, all, tc.want)
		}
	}
	last := netip.MustParsePrefix("fd00::/125")
	p := newPool(last, netip.Prefix{}, addressAt(last, 1))
	for range 6 {
		if _, err := p.take(netip.Addr{}); err != nil {
			t.Errorf("of six addresses: got %v", err)
		}
	}
	if a, err := p.take(netip.Addr{}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a seventh: got %s (%v)", a, err)
	}
}

func TestForwardingRecordFitsAnAlias(t *testing.T) {
	f := forwarding{ipForward: "0", acceptRedirects: "1", interfaces: []string{"default", "eth0"}}
	alias, lost := f.encode("triton/x")
	if len(lost) > 0 {
		t.Errorf("lost: got %v, want none", lost)
	}
	got, ok := decodeForwarding("triton/x", alias)
	if !ok || !cmp.Equal(f, got, cmp.AllowUnexported(forwarding{})) {
		t.Errorf("got %+v %v, want %+v", got, ok, f)
	}
	for _, alias := range []string{
		"", "triton/x", "triton/x ip_forward=0 accept_redirects=0 forwarding=../x",
		"triton/xy ip_forward=0 accept_redirects=1", "x ip_forward=0",
	} {
		if _, ok := decodeForwarding("triton/x", alias); ok {
			t.Errorf("%q: got a record, want none", alias)
		}
	}
	six := forwarding{ipForward: "1", acceptRedirects: "1", ip6: &forwarding6{interfaces: []string{"lo"}, acceptRA: []string{"eth0", "eth1"}}}
	alias, _ = six.encode("triton/x")
	if got, ok := decodeForwarding("triton/x", alias); !ok || !cmp.Equal(six, got, cmp.AllowUnexported(forwarding{}, forwarding6{})) {
		t.Errorf("got %+v %v, want %+v", got, ok, six)
	}
	// The one instance that changed IPv4 and the one that changed IPv6 leave one record to whoever stays last.
	if got := six.over(f); got.ipForward != "0" || got.ip6 != six.ip6 || !cmp.Equal(got.interfaces, f.interfaces) {
		t.Errorf("both records: got %+v", got)
	}
	for len(f.interfaces) < 40 {
		f.interfaces = append(f.interfaces, "averylongname01")
	}
	if alias, lost = f.encode("triton/x"); len(alias) > maxAlias || len(lost) == 0 {
		t.Errorf("got %d bytes, %d lost, want at most %d bytes", len(alias), len(lost), maxAlias)
	}
}
