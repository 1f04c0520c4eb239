package triton

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHealthFollowsItsProbes(t *testing.T) {
	check := &Healthcheck{StartPeriod: 10 * time.Second, Retries: 2}
	h := &Health{Status: HealthStarting}
	for i, step := range []struct {
		ran  time.Duration
		code int
		want string
	}{
		{1 * time.Second, 1, "starting 0"}, // in the start period
		{9 * time.Second, 1, "starting 0"},
		{10 * time.Second, 1, "starting 1"},
		{11 * time.Second, 0, "healthy 0"},
		{12 * time.Second, -1, "healthy 1"},
		{13 * time.Second, 2, "unhealthy 2"},
		{14 * time.Second, 2, "unhealthy 3"},
		{15 * time.Second, 0, "healthy 0"},
	} {
		before := *h
		h = h.After(check, Probe{ExitCode: step.code, Output: fmt.Sprint(i)}, step.ran)
		if got := fmt.Sprint(h.Status, " ", h.FailingStreak); got != step.want {
			t.Errorf("probe %d: got %s, want %s", i, got, step.want)
		}
		if len(before.Log) == len(h.Log) && len(h.Log) < keptProbes {
			t.Errorf("probe %d is not in the log", i)
		}
	}
	var outputs []string
	for _, p := range h.Log {
		outputs = append(outputs, p.Output)
	}
	if diff := cmp.Diff([]string{"3", "4", "5", "6", "7"}, outputs); diff != "" {
		t.Error(diff)
	}
	early := (&Health{Status: HealthHealthy}).After(check, Probe{ExitCode: 1}, time.Second)
	if early.FailingStreak != 1 {
		t.Error("after the first success the start period is over")
	}
}

func TestHealthcheckWaits(t *testing.T) {
	check := &Healthcheck{Interval: time.Minute, StartPeriod: 12 * time.Second}
	for _, c := range []struct {
		check  *Healthcheck
		status string
		ran    time.Duration
		want   time.Duration
	}{
		{check, HealthStarting, 0, 5 * time.Second},
		{check, HealthStarting, 10 * time.Second, 2 * time.Second},
		{check, HealthStarting, 12 * time.Second, time.Minute},
		{check, HealthHealthy, 0, time.Minute},
		{&Healthcheck{}, HealthStarting, 0, 30 * time.Second},
		{&Healthcheck{StartPeriod: time.Minute, StartInterval: time.Second}, HealthStarting, 0, time.Second},
	} {
		if got := c.check.Wait(c.status, c.ran); got != c.want {
			t.Errorf("%+v %s after %v: got %v, want %v", *c.check, c.status, c.ran, got, c.want)
		}
	}
}

func TestHealthcheckCommand(t *testing.T) {
	for _, c := range []struct {
		check *Healthcheck
		shell []string
		want  []string
	}{
		{nil, nil, nil},
		{&Healthcheck{Test: []string{"NONE"}}, nil, nil},
		{&Healthcheck{Test: []string{"CMD"}}, nil, nil},
		{&Healthcheck{Test: []string{"CMD", "a", "b"}}, []string{"sh"}, []string{"a", "b"}},
		{&Healthcheck{Test: []string{"CMD-SHELL", "a b"}}, nil, []string{"/bin/sh", "-c", "a b"}},
		{&Healthcheck{Test: []string{"CMD-SHELL", "a b"}}, []string{"bash", "-ec"}, []string{"bash", "-ec", "a b"}},
	} {
		if diff := cmp.Diff(c.want, c.check.Command(c.shell)); diff != "" {
			t.Errorf("%+v: %s", c.check, diff)
		}
	}
}
