package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// lines are those of a table, without the spaces at their ends.
func lines(table string) []string {
	var out []string
	for line := range strings.Lines(table) {
		out = append(out, strings.TrimRight(line, " \n"))
	}
	return out
}

func TestFlowsArePrinted(t *testing.T) {
	at := time.Unix(1000, 0)
	var out strings.Builder
	err := printFlows(&out, &wire.Flows{
		At: at,
		Remotes: []wire.Remote{
			{End: wire.End{Kind: "container", ID: "1", Name: "db"}, Direction: "out", Port: 5432, Traffic: wire.Traffic{
				Opened: 3, Open: 1, Opening: 1, SentBytes: 1500, ReceivedBytes: 2, Retransmits: 4, ResetsSent: 1, ResetsReceived: 1, RTT: 0.000123456,
				Failed: map[string]uint64{"timeout": 1, "refused": 2}, Drops: map[string]uint64{"netfilter_drop": 5}}},
			{End: wire.End{Kind: "other"}, Direction: "in", Port: 53, Traffic: wire.Traffic{Protocol: "udp", SentBytes: 70, SentDatagrams: 3, ReceivedDatagrams: 2}},
			{End: wire.End{Kind: "rest"}},
		},
		Open: []wire.Flow{{End: wire.End{Kind: "address", Address: "192.0.2.1"}, Direction: "in", Local: "10.0.0.2:80", RemotePort: 4711, State: "established", Begun: at.Add(-90 * time.Second)}},
		More: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"REMOTE   DIR  PORT    OPEN  OPENED  FAILED                SENT   RECEIVED  DATAGRAMS  RETRANS  RESETS  DROPS             RTT",
		"db       out  5432    2     3       2 refused, 1 timeout  1.5kB  2B        -          4        2       5 netfilter_drop  123µs",
		"(other)  in   53/udp  0     0       0                     70B    0B        3, 2       0        0       0                 -",
		"(rest)   -    -       0     0       0                     0B     0B        -          0        0       0                 -",
		"",
		"OPEN CONNECTION  DIR  LOCAL        STATE        AGE    SENT  RECEIVED  RETRANS  RTT",
		"192.0.2.1:4711   in   10.0.0.2:80  established  1m30s  0B    0B        0        -",
		"2 connections more",
	}
	if diff := cmp.Diff(want, lines(out.String())); diff != "" {
		t.Error(diff)
	}
}

func TestTheMapPrintsWhatCameBetweenTwoReadings(t *testing.T) {
	at := time.Unix(1000, 0)
	web, db := wire.End{Kind: "container", ID: "1", Name: "web"}, wire.End{Kind: "container", ID: "2", Name: "db"}
	before := wire.Map{At: at, Points: []wire.End{web, db}, Edges: []wire.Edge{
		{From: 0, To: 1, Port: 5432, Traffic: wire.Traffic{Protocol: "tcp", Opened: 10, SentBytes: 1000}},
	}}
	after := wire.Map{At: at.Add(2 * time.Second), Points: []wire.End{{Kind: "address"}, db, web}, More: 1, Edges: []wire.Edge{
		{From: 2, To: 1, Port: 5432, Traffic: wire.Traffic{Protocol: "tcp", Opened: 13, SentBytes: 5000, Retransmits: 2}},
		{From: 0, To: 2, Port: 80, Traffic: wire.Traffic{Protocol: "tcp", Opened: 4, Failed: map[string]uint64{"refused": 1}}},
	}}
	var out strings.Builder
	if err := printMap(&out, before, after); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"FROM         TO   PORT  OPEN  OPENED/S  SENT/S  RECEIVED/S  FAILED     RETRANS  DROPS  RTT",
		"web          db   5432  0     1.5       2kB     0B          0          2        0      -",
		"(addresses)  web  80    0     2         0B      0B          1 refused  0        0      -",
		"1 edges more",
	}
	if diff := cmp.Diff(want, lines(out.String())); diff != "" {
		t.Error(diff)
	}
}
