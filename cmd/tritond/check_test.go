package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/host"
	"github.com/tritond/triton/pkg/probes"
)

// TestCheckListsEveryProbe: each program is attached, has a stand-in, or is left out with the reason; only one that the
// daemon needs makes a machine unfit.
func TestCheckListsEveryProbe(t *testing.T) {
	refused := errors.New("drops: type not found\ndrops: kernel too old")
	all := []probes.Surveyed{
		{Object: "measure", Program: "sys_exit", As: "sys_exit"},
		{Object: "network", Program: "drops", As: "drops_old", Reason: refused, Optional: true},
		{Object: "network", Program: "rtt", Reason: refused, Optional: true},
		{Object: "exits", Program: "exits_exit", Reason: refused},
	}
	for need, ready := range map[int]bool{3: true, 4: false} {
		var table strings.Builder
		if got, err := host.Write(&table, surveyed(all[:need], nil)); err != nil || got != ready {
			t.Errorf("ready %t (%v), want %t", got, err, ready)
		}
		for _, want := range []string{
			"ok        measure/sys_exit  attached",
			"fallback  network/drops     drops_old is attached instead: drops: type not found; drops: kernel too old",
			"fallback  network/rtt       left out: drops: type not found",
		} {
			if !strings.Contains(table.String(), want) {
				t.Errorf("no %q in\n%s", want, table.String())
			}
		}
	}
	if fs := surveyed(nil, refused); len(fs) != 1 || fs[0].Level != host.Missing {
		t.Errorf("without a survey: %+v", fs)
	}
}

// TestKernelCheckHasAllProgramsOfTheProbes: this kernel takes them all.
func TestKernelCheckHasAllProgramsOfTheProbes(t *testing.T) {
	fs := surveyed(probes.Survey())
	if len(fs) < 19 {
		t.Errorf("%d programs in the table: %+v", len(fs), fs)
	}
	for _, f := range fs {
		if f.Level != host.OK {
			t.Errorf("%+v", f)
		}
	}
}

// TestKernelCheckTellsThePriceAndTheBudget: what the hooks add to a call was measured, and the budget says what it pays for.
func TestKernelCheckTellsThePriceAndTheBudget(t *testing.T) {
	for _, c := range []struct {
		cfg  config
		want string
	}{
		{config{Probes: probesAuto, ProbesBudget: 3}, `^3 % of the time in which processors are busy: those hooks alone use it up at [\d.e+]+ calls a second`},
		{config{Probes: "counters"}, "^none: the level is counters"},
	} {
		fs := priced(c.cfg)
		if len(fs) != 2 || fs[0].Level != host.OK || !regexp.MustCompile(`^add \d+ns to each call`).MatchString(fs[0].Got) || !regexp.MustCompile(c.want).MatchString(fs[1].Got) {
			t.Errorf("%+v", fs)
		}
	}
}
