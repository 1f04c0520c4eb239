package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/tritond/triton/pkg/sched"
)

// recorded is a file that a daemon wrote: a snapshot (sched.Record) and requests that were decided on it in this order, each
// bound before the next.
//
//	{"snapshot": {"format": 1, "now": ..., "nodes": [...], "containers": [...], "history": {...}, ...}, "requests": [{...}, ...]}
type recorded struct {
	Snapshot sched.Record    `json:"snapshot"`
	Requests []sched.Request `json:"requests"`
}

// replayRecord decides the requests again and explains each decision.
func replayRecord(file string, out io.Writer) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var r recorded
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	s, err := sched.FromRecord(r.Snapshot)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, request := range r.Requests {
		d, err := sched.Place(s, request)
		fmt.Fprintln(out, d.Explain())
		if err != nil {
			continue
		}
		if _, err := s.Assign(d.Node, request); err != nil {
			return fmt.Errorf("bind %s: %w", request.Key, err)
		}
	}
	return nil
}
