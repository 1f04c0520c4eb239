package wire

import (
	"net/url"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// NetworkPath answers Network of one container.
func NetworkPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/network"
}

// Network tells how a container's network fared since its start.
type Network struct {
	At   time.Time `json:"at"`
	Name string    `json:"name"` // of the container
	// Connect has the TCP connections that the container opened, from the first SYN to the answer; Accept those that it
	// accepted, from their opening to the return of accept, while system calls were counted; RTT samples round trips.
	Connect triton.Histogram `json:"connect"`
	Accept  triton.Histogram `json:"accept"`
	RTT     triton.Histogram `json:"rtt"`
	// Failed are attempts to connect that failed, Drops packets that the kernel dropped, by reason; those that happened.
	Failed         map[string]uint64 `json:"failed"`
	Drops          map[string]uint64 `json:"drops"`
	ResetsSent     uint64            `json:"resetsSent"`
	ResetsReceived uint64            `json:"resetsReceived"`
}
