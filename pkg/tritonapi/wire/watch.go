package wire

import "net/url"

// WatchPath answers Watched to GET, and to POST with the parameter level, which sets it; without that the label holds again.
func WatchPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/watch"
}

// Watched is how much of a container is measured.
type Watched struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Asked is what was asked for, by the label or since; empty: nothing was.
	Asked string `json:"asked,omitempty"`
	// Level is what it has: that, or the machine's where nothing was asked or more than a tenant may have.
	Level string `json:"level"`
}
