package wire

import "net/url"

// ProfileHeader is the header of a profile that says in a line what is in it and what is not.
const ProfileHeader = "Triton-Profile"

// ProfilePath answers a profile of a container in pprof's form, gzipped; it takes as long as the parameter seconds says. The
// parameter kind is cpu or off-cpu. With form=flame the answer is a Flame.
func ProfilePath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/profile"
}

// Flame is a profile for a flame graph.
type Flame struct {
	Summary string `json:"summary"` // as ProfileHeader's
	Root    any    `json:"root"`    // profile.Flame
}
