package wire

import (
	"net/url"
	"time"
)

// CoresPath is where the core dumps of a tenant are listed.
const CoresPath = Prefix + "cores"

// CorePath is where a dump's record is, or with a kind a part of it: "core" and "mini" are core files, "backtrace" its
// stacks, "bundle" a tar of all that a debugger needs. ref is an id or a unique prefix.
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
	Pause     time.Duration `json:"pauseNs,omitempty"`
	Container string        `json:"container"`
	Name      string        `json:"name"`
	Image     string        `json:"image"`
	At        time.Time     `json:"at"`
	Signal    string        `json:"signal"`
	Note      string        `json:"note,omitempty"`
	// Place is the instruction: a module's build id or path, and the offset in it.
	Place string `json:"place,omitempty"`
	// Group and Top are what the stacks say: the group of like crashes, and the function that it begins with.
	Group       string `json:"group,omitempty"`
	Top         string `json:"top,omitempty"`
	Comm        string `json:"comm"`
	ThreadCount int    `json:"threadCount"`
	Body        string `json:"body"` // full, truncated, mini or none
	Cut         string `json:"cut,omitempty"`
	MemoryBytes uint64 `json:"memoryBytes"`
	StoredBytes uint64 `json:"storedBytes"`
}
