package triton

import (
	"testing"
	"time"
)

func TestRestartPolicyEndedAsDockerDoes(t *testing.T) {
	for _, c := range []struct {
		policy         RestartPolicy
		code, restarts int
		byHand         bool
		again          bool
	}{
		{RestartPolicy{}, 1, 0, false, false},
		{RestartPolicy{Name: RestartNo}, 1, 0, false, false},
		{RestartPolicy{Name: RestartAlways}, 0, 1000, false, true},
		{RestartPolicy{Name: RestartAlways}, 1, 0, true, true},
		{RestartPolicy{Name: RestartUnlessStopped}, 0, 0, false, true},
		{RestartPolicy{Name: RestartUnlessStopped}, 0, 0, true, false},
		{RestartPolicy{Name: RestartOnFailure}, 0, 0, false, false},
		{RestartPolicy{Name: RestartOnFailure}, 3, 1000, false, true},
		{RestartPolicy{Name: RestartOnFailure, MaximumRetryCount: 2}, 3, 1, false, true},
		{RestartPolicy{Name: RestartOnFailure, MaximumRetryCount: 2}, 3, 2, false, false},
	} {
		if again := c.policy.Ended(c.code, c.restarts, c.byHand); again != c.again {
			t.Errorf("%+v after code %d, %d restarts, by hand %v: %v, want %v", c.policy, c.code, c.restarts, c.byHand, again, c.again)
		}
	}
}

func TestDaemonStartsWhatDockerStarts(t *testing.T) {
	for name, want := range map[string][2]bool{ // by itself, by hand
		"": {}, RestartNo: {}, RestartOnFailure: {}, RestartAlways: {true, true}, RestartUnlessStopped: {true, false},
	} {
		p := RestartPolicy{Name: name}
		if got := [2]bool{p.DaemonStarts(false), p.DaemonStarts(true)}; got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestRestartPauseDoublesToAMinuteAndIsForgottenAfterACalmRun(t *testing.T) {
	pause := time.Duration(0)
	for i, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		if pause = RestartPause(pause, time.Second); pause != want {
			t.Errorf("pause %d is %v, want %v", i, pause, want)
		}
	}
	for range 20 {
		pause = RestartPause(pause, 0)
	}
	if pause != time.Minute {
		t.Errorf("longest pause is %v", pause)
	}
	if pause = RestartPause(pause, 10*time.Second); pause != 100*time.Millisecond {
		t.Errorf("after a calm run the pause is %v", pause)
	}
}
