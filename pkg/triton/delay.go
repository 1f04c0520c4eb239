package triton

import "time"

// Culprit says what had the CPU while a container waited for it.
type Culprit string

const (
	// CulpritContainer is a container: the one named, which may be the victim itself.
	CulpritContainer Culprit = "container"
	// CulpritEnded is all containers that have ended since, together.
	CulpritEnded Culprit = "ended"
	// CulpritHost is what belongs to no container: the kernel's threads and the machine's other processes.
	CulpritHost Culprit = "host"
	// CulpritIdle is nobody: the CPU was idle, because a quota held the container back or because a CPU takes time to wake up.
	CulpritIdle Culprit = "idle"
	// CulpritUnknown is the time that could not be attributed.
	CulpritUnknown Culprit = "unattributed"
)

// Delay is how long a container's tasks waited for a CPU while a culprit had it, summed over tasks. It only grows, as long
// as both containers live; what a culprit that ended had caused goes to CulpritEnded.
type Delay struct {
	Culprit   Culprit
	Container ContainerKey // of CulpritContainer
	Wait      time.Duration
}
