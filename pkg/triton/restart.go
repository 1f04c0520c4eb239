package triton

import "time"

// RestartPolicy says whether a container is started again when it ends by itself.
type RestartPolicy struct {
	Name string `json:"name,omitempty"` // no (also ""), always, unless-stopped, on-failure
	// MaximumRetryCount bounds the restarts of on-failure; 0: no bound.
	MaximumRetryCount int `json:"maximumRetryCount,omitempty"`
}

// Names of restart policies, as docker spells them.
const (
	RestartNo            = "no"
	RestartAlways        = "always"
	RestartUnlessStopped = "unless-stopped"
	RestartOnFailure     = "on-failure"
)

// Docker's pauses before a restart: the first, the longest, and the length of a run after which the next is the first again.
const (
	firstRestartPause = 100 * time.Millisecond
	maxRestartPause   = time.Minute
	restartCalm       = 10 * time.Second
)

// Restarts reports whether the policy ever starts a container again.
func (p RestartPolicy) Restarts() bool { return p.Name != "" && p.Name != RestartNo }

// Ended says what follows a run that nobody ordered to end: another run or not.
func (p RestartPolicy) Ended(exitCode, restarts int, byHand bool) (again bool) {
	switch p.Name {
	case RestartAlways:
		return true
	case RestartUnlessStopped:
		return !byHand
	case RestartOnFailure:
		return exitCode != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

// DaemonStarts says whether a container that had ended for good starts with the daemon. On-failure does not, as docker
// documents it.
func (p RestartPolicy) DaemonStarts(byHand bool) bool {
	return p.Name == RestartAlways || p.Name == RestartUnlessStopped && !byHand
}

// RestartPause is how long to wait before the next run, after a last pause and a run that took so long.
func RestartPause(last, ran time.Duration) time.Duration {
	if last <= 0 || ran >= restartCalm {
		return firstRestartPause
	}
	return min(2*last, maxRestartPause)
}
