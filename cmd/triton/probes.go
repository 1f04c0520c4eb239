package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// printLevel prints how much is measured, why, and what it costs.
func printLevel(out io.Writer, p *wire.Probes, now time.Time) {
	fmt.Fprintf(out, "level %s, price %.2f%% of the machine (system calls slowed: %.2f%% of one CPU)\n", p.Level, 100*p.Price, 100*p.Tax)
	switch {
	case p.Share > 0 && p.Share < 1:
		fmt.Fprintf(out, "system calls are counted in %.0f%% of the time: ~ their numbers are estimates; the flight recorder is empty\n", 100*p.Share)
	case p.Share == 0:
		fmt.Fprintln(out, "system calls are not counted; the flight recorder is empty")
	}
	s := p.Stepping
	if s == nil {
		return
	}
	fmt.Fprintf(out, "budget %.3g%% of the time in which processors are busy, of which it takes %.2f%% now\n", 100*s.Budget, 100*p.Burden)
	for _, level := range []string{"detail", "sampled", "counters"} {
		if price, ok := s.Estimates[level]; ok && level != p.Level {
			fmt.Fprintf(out, "at level %s it would take ~%.2f%%\n", level, 100*price)
		}
	}
	if l := s.Last; l != nil {
		fmt.Fprintf(out, "stepped from %s to %s %s ago, %d steps in all: %s\n",
			l.From, l.To, now.Sub(l.At).Round(time.Second), s.Steps, oneLine(l.Why))
	}
}
