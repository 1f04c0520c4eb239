package wire

import (
	"net/url"
	"time"
)

// DeathsPath is where the abnormal ends of a tenant's containers are listed.
const DeathsPath = Prefix + "deaths"

// DeathPath is where a record is. ref is its id or a unique prefix, or else a container, whose newest record it then is.
func DeathPath(ref string) string { return DeathsPath + "/" + url.PathEscape(ref) }

// DeathList answers GET /triton/v1/deaths, newest first.
type DeathList struct {
	Deaths []Death `json:"deaths"`
	// Damaged counts records that could not be read.
	Damaged int `json:"damaged,omitempty"`
}

// Death is an abnormal end in short.
type Death struct {
	ID        string    `json:"id"`
	Container string    `json:"container"`
	Name      string    `json:"name"`
	Image     string    `json:"image"`
	Run       int       `json:"run"`
	Restarts  int       `json:"restarts"`
	Started   time.Time `json:"started"`
	At        time.Time `json:"at"`
	Kind      string    `json:"kind"` // oom, signal, exit or lost
	Code      int       `json:"code"`
	Reason    string    `json:"reason"`
	Core      string    `json:"core,omitempty"` // the last dump of the run
}
