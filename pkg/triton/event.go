package triton

import "time"

// Event is one thing that happened to an object: what `docker events` shows.
type Event struct {
	Node       string            `json:"node"`
	Seq        uint64            `json:"seq"` // grows by one per event of a node; 0: not yet in the journal
	Time       time.Time         `json:"time"`
	Tenant     Tenant            `json:"tenant"`
	Type       string            `json:"type"`   // container, image, network, volume, daemon
	Action     string            `json:"action"` // create, start, die, …
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Event types.
const (
	EventContainer = "container"
	EventImage     = "image"
	EventNetwork   = "network"
	EventVolume    = "volume"
	EventDaemon    = "daemon"
)
