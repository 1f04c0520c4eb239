package tritonapi

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestTheMapOfAllTenantsIsForOperators(t *testing.T) {
	h := newAPI()
	tenant := &auth.Caller{Name: "g", Tenant: "globex"}
	if status, _ := ask(h, "GET "+wire.MapPath+"?all=1", "", tenant); status != http.StatusForbidden {
		t.Errorf("a tenant is answered %d, want 403", status)
	}
	operator := &auth.Caller{Name: "o", Tenant: triton.DefaultTenant, Operator: true}
	for query, seen := range map[string]bool{"": false, "?all=1": true} {
		status, body := ask(h, "GET "+wire.MapPath+query, "", operator)
		if status != http.StatusOK || strings.Contains(body, acmesName) != seen {
			t.Errorf("%q answers an operator %d %s, want acme's in it: %v", query, status, body, seen)
		}
	}
}

func TestFlowsSayWhichWayAndHideWhatIsUnknown(t *testing.T) {
	key := triton.ContainerKey{Tenant: "acme", ID: acmesID}
	at := netip.MustParseAddrPort("10.0.0.9:80")
	talks := node.Talks{
		Key: key, Name: acmesName,
		Remotes: []node.Remote{
			{Kind: node.RemoteContainer, Name: "db", Peer: triton.Peer{Address: at.Addr(), Other: key, Port: 80, Protocol: "tcp", RTT: time.Millisecond}},
			{Kind: node.RemoteOther, Peer: triton.Peer{Port: 8080, Protocol: "tcp", Accepted: true}},
			{Kind: node.RemoteRest, Peer: triton.Peer{Opened: 7}},
		},
		Open: make([]node.NamedFlow, mostFlows+3),
	}
	talks.Open[0] = node.NamedFlow{Kind: node.RemoteAddress, Flow: triton.Flow{Local: at, Remote: at, Accepted: true}}
	got := flowsOf(talks)
	want := []wire.Remote{
		{End: wire.End{Kind: "container", ID: acmesID, Name: "db", Address: "10.0.0.9"}, Direction: "out", Port: 80, Traffic: wire.Traffic{Protocol: "tcp", RTT: 0.001}},
		{End: wire.End{Kind: "other"}, Direction: "in", Port: 8080, Traffic: wire.Traffic{Protocol: "tcp"}},
		{End: wire.End{Kind: "rest"}, Traffic: wire.Traffic{Opened: 7}},
	}
	if diff := cmp.Diff(want, got.Remotes); diff != "" {
		t.Error(diff)
	}
	if len(got.Open) != mostFlows || got.More != 3 {
		t.Errorf("%d flows and %d more, want %d and 3", len(got.Open), got.More, mostFlows)
	}
	if diff := cmp.Diff(wire.Flow{End: wire.End{Kind: "address", Address: "10.0.0.9"}, Direction: "in", Local: "10.0.0.9:80", RemotePort: 80}, got.Open[0]); diff != "" {
		t.Error(diff)
	}
}

// A map is its edges' ends once each, and numbers that the ends are found by.
func TestMapsHaveEachPointOnce(t *testing.T) {
	point := func(id string) node.MapPoint {
		return node.MapPoint{Kind: node.RemoteContainer, Key: triton.ContainerKey{Tenant: "acme", ID: id}}
	}
	m := MapOf(node.ServiceMap{
		Names: map[triton.ContainerKey]string{point("1").Key: "web"},
		Edges: []node.MapEdge{{From: point("1"), To: point("2")}, {From: point("2"), To: point("1")}, {From: point("1"), To: node.MapPoint{Kind: node.RemoteOther}}},
	}, time.Time{})
	want := []wire.End{{Kind: "container", ID: "1", Name: "web"}, {Kind: "container", ID: "2"}, {Kind: "other"}}
	if diff := cmp.Diff(want, m.Points); diff != "" {
		t.Error(diff)
	}
	for i, ends := range [][2]int{{0, 1}, {1, 0}, {0, 2}} {
		if e := m.Edges[i]; e.From != ends[0] || e.To != ends[1] {
			t.Errorf("edge %d leads from %d to %d, want %v", i, e.From, e.To, ends)
		}
	}
	if b, err := json.Marshal(MapOf(node.ServiceMap{}, time.Time{})); err != nil || !strings.Contains(string(b), `"points":[],"edges":[]`) {
		t.Errorf("an empty map is %s, %v", b, err)
	}
}
