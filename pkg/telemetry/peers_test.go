package telemetry

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestPeersHaveSeriesOfTheirOwnUpToABound(t *testing.T) {
	key := newKey()
	db := newKey()
	peers := []triton.Peer{
		{Address: netip.MustParseAddr("10.0.0.9"), Port: 6379, Protocol: "tcp", Other: db, Opened: 3, ConnectFailures: map[string]uint64{"refused": 2, "timeout": 1},
			Open: 1, SentBytes: 500, ReceivedBytes: 700, Retransmits: 6, ResetsSent: 5, ResetsReceived: 9, Drops: map[string]uint64{"a": 1, "b": 2}},
		{Address: netip.MustParseAddr("10.0.0.9"), Port: 6379, Protocol: "tcp", Other: db, Accepted: true, Opened: 8},
		{Address: netip.MustParseAddr("10.0.0.8"), Port: 1, Protocol: "tcp", Other: newKey(), Opened: 20}, // whoever had the address is gone
		{Address: netip.MustParseAddr("10.0.0.8"), Port: 1, Protocol: "tcp", Other: newKey(), Opened: 22},
	}
	s := New(Config{
		Peers: func() (map[triton.ContainerKey][]triton.Peer, error) {
			return map[triton.ContainerKey][]triton.Peer{key: peers, newKey(): peers}, nil // the second has no row: it has ended
		},
		Names: func() map[triton.ContainerKey]string { return map[triton.ContainerKey]string{db: "db"} },
	})
	s.Add(key, "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.pass(t.Context())
	_, body := scrape(t, s, "")
	of := `{id="/docker/` + key.ID + `",image="nginx",name="web",peer="10.0.0.9",peer_name="db",port="6379",protocol="tcp",`
	for _, want := range []string{
		`triton_container_peer_connections_total` + of + `result="established",role="client"} 3`,
		`triton_container_peer_connections_total` + of + `result="refused",role="client"} 2`,
		`triton_container_peer_connections_total` + of + `result="timeout",role="client"} 1`,
		`triton_container_peer_packet_drops_total` + of + `role="client"} 3`,
		`triton_container_peer_resets_total{direction="sent",` + of[1:] + `role="client"} 5`,
		`triton_container_peer_resets_total{direction="received",` + of[1:] + `role="client"} 9`,
		`triton_container_peer_connections_total{id="/docker/` + key.ID + `",image="nginx",name="web",peer="10.0.0.8",peer_name="",port="1",protocol="tcp",result="established",role="client"} 42`,
		`triton_container_peer_connections_total` + of + `result="established",role="server"} 8`,
		`triton_container_peer_sent_bytes_total` + of + `role="client"} 500`,
		`triton_container_peer_received_bytes_total` + of + `role="client"} 700`,
		`triton_container_peer_retransmits_total` + of + `role="client"} 6`,
		`triton_container_peer_open_connections` + of + `role="client"} 1`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}

	// Twenty have series, three of which are above; the next ones are one, and who has series keeps them when an earlier
	// address comes.
	peers = nil
	for i := range 150 {
		peers = append(peers, triton.Peer{Address: netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", i)), Port: 80, SentBytes: 10})
	}
	_, body = scrape(t, s, "")
	shown := strings.Count(body, "triton_container_peer_sent_bytes_total{")
	if shown != peersShown-3+1 || !strings.Contains(body, `peer="other",peer_name="",port="",protocol="",role=""} 1330`) {
		t.Errorf("%d peers have series, want %d and the others' 1330 bytes", shown, peersShown-3+1)
	}
	peers = append([]triton.Peer{{Address: netip.MustParseAddr("10.0.0.1"), Port: 80, SentBytes: 10}}, peers...)
	_, body = scrape(t, s, "")
	if strings.Contains(body, `peer="10.0.0.1"`) || !strings.Contains(body, `peer="10.1.0.0"`) || !strings.Contains(body, `peer="other",peer_name="",port="",protocol="",role=""} 1340`) {
		t.Error("a later peer took an earlier one's series")
	}
}

func TestPeersThatCannotBeReadAreNotServed(t *testing.T) {
	s := New(Config{Peers: func() (map[triton.ContainerKey][]triton.Peer, error) { return nil, fmt.Errorf("no") }})
	s.Add(newKey(), "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
	s.pass(t.Context())
	scrape(t, s, "")
	_, body := scrape(t, s, "") // tells of the first
	if strings.Contains(body, "triton_container_peer") || !strings.Contains(body, "triton_telemetry_source_errors_total 1\n") {
		t.Error("peers are served, or the error is not counted")
	}
}
