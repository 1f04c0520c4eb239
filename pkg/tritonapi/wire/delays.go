package wire

import (
	"net/url"
	"time"
)

// DelaysPath answers Delays of all containers of the machine; for operators.
const DelaysPath = Prefix + "delays"

// ContainerDelaysPath answers Delays of one container.
func ContainerDelaysPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/delays"
}

// Delays tells who had the CPU while containers waited for it.
type Delays struct {
	At      time.Time `json:"at"`
	Victims []Victim  `json:"victims"` // in order of name
}

// Victim is a container that waited.
type Victim struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Culprits []Culprit `json:"culprits"` // longest first
}

// Culprit is what had the CPU meanwhile.
type Culprit struct {
	// Kind is container, self (the victim's own other tasks), other (containers of other tenants, and those that have
	// ended), ended (for operators: those that have), host, idle (nobody: a quota held the victim back, or the CPU had to wake
	// up), or unattributed.
	Kind    string  `json:"kind"`
	ID      string  `json:"id,omitempty"` // of a container
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds"` // summed over the victim's tasks, since both are there
}
