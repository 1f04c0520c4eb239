package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatTheClientsPrintIsRead(t *testing.T) {
	r, err := parseRedis("\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"123456.78\",\"0.1\"\n")
	if err != nil || r.rate != 123456.78 || r.requests != 0 {
		t.Errorf("redis: %+v, %v", r, err)
	}
	r, err = parseWrk("Running 2s test @ http://h/\n  1 threads and 16 connections\n  67890 requests in 2.00s, 10MB read\nRequests/sec:  33945.10\nTransfer/sec: 5MB\n")
	if err != nil || r.rate != 33945.10 || r.requests != 67890 {
		t.Errorf("wrk: %+v, %v", r, err)
	}
	for _, out := range []string{"", "\"SET\",\"none\"\n", "\"SET\"\n"} {
		if _, err := parseRedis(out); err == nil {
			t.Errorf("redis: %q is taken", out)
		}
	}
	for _, out := range []string{"", "  9 requests in 2s\n", "  9 requests in 2s\n  Socket errors: connect 1\nRequests/sec: 4\n"} {
		if _, err := parseWrk(out); err == nil {
			t.Errorf("wrk: %q is taken", out)
		}
	}
}

func TestServersTellWhatTheyDid(t *testing.T) {
	n, err := parseInfo(bufio.NewReader(strings.NewReader("$2000\r\n# Stats\r\ntotal_connections_received:3\r\ntotal_commands_processed:1234\r\n")))
	if err != nil || n != 1234 {
		t.Errorf("redis: %d, %v", n, err)
	}
	n, err = parseStatus("Active connections: 17 \nserver accepts handled requests\n 20 19 5678 \nReading: 0 Writing: 1 Waiting: 16 \n")
	if err != nil || n != 5678 {
		t.Errorf("nginx: %d, %v", n, err)
	}
	for _, answer := range []string{"", "-ERR\r\n", "total_commands_processed:-1\r\n", strings.Repeat("a:1\r\n", 200)} {
		if _, err := parseInfo(bufio.NewReader(strings.NewReader(answer))); err == nil {
			t.Errorf("redis: %q is taken", answer)
		}
	}
	for _, answer := range []string{"", "404", " 1 2 \n", " 1 2 99999999999999999999999 \n"} {
		if _, err := parseStatus(answer); err == nil {
			t.Errorf("nginx: %q is taken", answer)
		}
	}
}

func TestCommandLine(t *testing.T) {
	cfg, err := parse([]string{"-levels", "auto,detail", "-only", "^redis", "-rounds", "3"})
	if err != nil || len(cfg.levels) != 2 || len(cfg.all) != 1 || cfg.rounds != 3 {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, args := range [][]string{
		{"-compare", "moons"}, {"-levels", "loud"}, {"-levels", "off"}, {"-compare", "places", "-levels", "off,auto"}, {"-rounds", "-1"}, {"-only", "("},
		{"-places", "("}, {"-slice", "0s"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

func TestBlocksOfSeveralRunsAddUp(t *testing.T) {
	k := keeper{filepath.Join(t.TempDir(), "blocks")}
	want := block{Rate: 0.5, CPU: 2, Hooked: 0.25}
	for _, level := range []string{"off", "detail", "off"} {
		if err := k.add("redis SET", level, want); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := k.read("redis SET", "off"); err != nil || len(got) != 2 || got[0] != want {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := k.read("nginx GET", "off"); err != nil || got != nil {
		t.Errorf("of another service: %v, %v", got, err)
	}
	if err := os.WriteFile(k.path, []byte("no block\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.read("redis SET", "off"); err == nil {
		t.Error("a file of something else is taken")
	}
	if got, err := (keeper{}).read("redis SET", "off"); err != nil || got != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
}
