package wire

import (
	"net/url"
	"time"
)

// CoresPath is where the core dumps of a tenant are listed.
const CoresPath = Prefix + "cores"

// CorePath is where a dump's record is, with kind "core" or "mini" its core file, with "backtrace" its stacks. ref is an id or a unique prefix.
func CorePath(ref, kind string) string {
	p := CoresPath + "/" + url.PathEscape(ref)
	if kind != "" {
		p += "/" + kind
	}
	return p
}

// SnapshotPath takes a core of a container's process when it is posted to.
func SnapshotPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/snapshot"
}

// CoreList answers GET /triton/v1/cores, newest first.
type CoreList struct {
	Cores []Core `json:"cores"`
	// Damaged counts records that could not be read.
	Damaged int `json:"damaged,omitempty"`
}

// Core summarizes a dump.
type Core struct {
	ID   string `json:"id"`
	Kind string `json:"kind,omitempty"` // "snapshot", or empty: a crash
	// Pause is how long the process of a snapshot stood.
	Pause       time.Duration `json:"pauseNs,omitempty"`
	Container   string        `json:"container"`
	Name        string        `json:"name"`
	Image       string        `json:"image"`
	At          time.Time     `json:"at"`
	Signal      string        `json:"signal"`
	Note        string        `json:"note,omitempty"`
	Comm        string        `json:"comm"`
	ThreadCount int           `json:"threadCount"`
	Body        string        `json:"body"` // full, truncated, mini or none
	Cut         string        `json:"cut,omitempty"`
	MemoryBytes uint64        `json:"memoryBytes"`
	StoredBytes uint64        `json:"storedBytes"`
}
