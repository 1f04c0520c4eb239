package host

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

// Level says what a finding means for the daemon.
type Level int

// From best to worst.
const (
	OK       Level = iota // there, as wanted
	Fallback              // not there, and something else is done instead, or something smaller
	Missing               // not there, and the daemon cannot do its work without
)

// String is the word in the table.
func (l Level) String() string {
	return [...]string{"ok", "fallback", "missing"}[l]
}

// Finding is one thing that was looked at.
type Finding struct {
	Group string // kernel, probes, control groups, files, network, rights, room
	Name  string // what was looked at
	Level Level
	Got   string // what is there, and for Fallback and Missing what follows from that
}

// Config says where the daemon would live.
type Config struct {
	DataRoot string   // may not exist yet: then its nearest parent is looked at
	MinFree  uint64   // bytes that must stay free on the data root's volume
	Listen   []string // TCP addresses, HOST:PORT, that the daemon would open
	Running  bool     // a daemon of this data root runs: its addresses are taken, by itself
}

// check is a group's part of Check.
type check func(context.Context, Config) []Finding

// Check looks at everything, in the order in which it is worth repairing.
func Check(ctx context.Context, cfg Config) []Finding {
	var all []Finding
	for _, c := range []check{kernel, bpf, cgroups, files, networking, rights, room} {
		all = append(all, c(ctx, cfg)...)
	}
	return all
}

// Write prints findings as a table with a heading per group, and a last line that sums them up. It reports whether
// nothing is Missing.
func Write(w io.Writer, all []Finding) (ready bool, err error) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	group, count := "", [Missing + 1]int{}
	for _, f := range all {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(tw, "%s\n", group)
		}
		count[f.Level]++
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", f.Level, f.Name, f.Got)
	}
	switch {
	case count[Missing] > 0:
		fmt.Fprintf(tw, "result: not ready: %d missing, %d with a fallback, %d ok\n", count[Missing], count[Fallback], count[OK])
	default:
		fmt.Fprintf(tw, "result: ready: %d ok, %d with a fallback\n", count[OK], count[Fallback])
	}
	return count[Missing] == 0, tw.Flush()
}

// grade is the finding of a thing that is there when err is nil. Else its level is without, and got tells what follows.
func grade(group, name string, err error, there string, without Level, got string) Finding {
	if err == nil {
		return Finding{group, name, OK, there}
	}
	return Finding{group, name, without, fmt.Sprintf("%s (%v)", got, err)}
}
