package telemetry

import (
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

func TestNetworkHealthIsServed(t *testing.T) {
	key := newKey()
	health := triton.NetworkHealth{
		Connect:         triton.Histogram{Schema: 2, First: -40, Counts: []uint64{1, 2}, SumNs: 3e6},
		RTT:             triton.Histogram{Schema: 2, First: -40, Counts: []uint64{0, 5}, SumNs: 6e6},
		ConnectFailures: map[string]uint64{"refused": 7, "timeout": 0},
		ResetsSent:      8, ResetsReceived: 9,
		Drops: map[string]uint64{"socket_rcvbuff": 10},
	}
	cfg := Config{Network: func() map[triton.ContainerKey]triton.NetworkHealth {
		return map[triton.ContainerKey]triton.NetworkHealth{key: health, newKey(): health} // the second has no row: it has ended
	}}
	body := func(cfg Config) string {
		s := New(cfg)
		s.Add(key, "web", "nginx", func() (Sample, error) { return sampleAt(3), nil })
		s.Add(newKey(), "unwatched", "nginx", func() (Sample, error) { return sampleAt(3), nil })
		s.pass(t.Context())
		_, body := scrape(t, s, "")
		return body
	}
	of := `{id="/docker/` + key.ID + `",image="nginx",name="web"`
	served := body(cfg)
	for _, want := range []string{
		`triton_container_tcp_connect_duration_seconds_count` + of + `} 3`,
		`triton_container_tcp_connect_duration_seconds_sum` + of + `} 0.003`,
		`triton_container_tcp_rtt_seconds_count` + of + `} 5`,
		`triton_container_tcp_rtt_seconds_sum` + of + `} 0.006`,
		`triton_container_tcp_connect_failures_total` + of + `,reason="refused"} 7`,
		`triton_container_tcp_connect_failures_total` + of + `,reason="timeout"} 0`,
		`triton_container_tcp_resets_total{direction="sent",id="/docker/` + key.ID + `",image="nginx",name="web"} 8`,
		`triton_container_tcp_resets_total{direction="received",id="/docker/` + key.ID + `",image="nginx",name="web"} 9`,
		`triton_container_packet_drops_total` + of + `,reason="socket_rcvbuff"} 10`,
	} {
		if !strings.Contains(served, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Count(served, "triton_container_packet_drops_total{") != 1 {
		t.Error("a container of which nothing is known has drops")
	}
	cfg.Missing = func() []string { return []string{"network_drops"} }
	if strings.Contains(body(cfg), "triton_container_packet_drops") {
		t.Error("drops are served although the program does not run")
	}
	if strings.Contains(body(Config{}), "triton_container_tcp") {
		t.Error("served without being asked for")
	}
}
