package main

import "testing"

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
