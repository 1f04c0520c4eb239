package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func TestDelaysPrintsWhatCameBetweenTwoReadings(t *testing.T) {
	at := time.Unix(1000, 0)
	reading := func(at time.Time, host, noisy, calm float64) wire.Delays {
		return wire.Delays{At: at, Victims: []wire.Victim{{ID: "1", Name: "web", Culprits: []wire.Culprit{
			{Kind: "host", Seconds: host}, {Kind: "container", ID: "2", Name: "host", Seconds: noisy}, {Kind: "self", Seconds: calm},
		}}}}
	}
	for _, c := range []struct {
		before, after wire.Delays
		want          []string
	}{
		{reading(at, 1, 1, 1), reading(at.Add(2*time.Second), 2, 4, 1), []string{
			"VICTIM  CULPRIT  SECONDS/S  SHARE", "web     host     1.5000     75%", "web     (host)   0.5000     25%",
		}},
		{wire.Delays{}, reading(at, 1, 3, 0), []string{
			"VICTIM  CULPRIT  SECONDS  SHARE", "web     host     3.0000   75%", "web     (host)   1.0000   25%",
		}},
	} {
		var out strings.Builder
		if err := printDelays(&out, c.before, c.after); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
			t.Error(diff)
		}
	}
}
