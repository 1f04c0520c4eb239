package wire

import (
	"net/url"

	"github.com/tritond/triton/pkg/crashgroup"
)

// GroupsPath is where the groups of a tenant's crashes are listed.
const GroupsPath = Prefix + "core-groups"

// GroupPath is where a group is; ref is an id or a unique prefix.
func GroupPath(ref string) string { return GroupsPath + "/" + url.PathEscape(ref) }

// ResolvePath resolves a group when it is posted to, and reopens it when it is deleted.
func ResolvePath(ref string) string { return GroupPath(ref) + "/resolve" }

// GroupList answers GET /triton/v1/core-groups, the group that crashed last first. What was counted is left out of each.
type GroupList struct {
	Groups []*crashgroup.Group `json:"groups"`
	// Damaged counts groups that could not be read.
	Damaged int `json:"damaged,omitempty"`
}

// Group answers GET /triton/v1/core-groups/ID.
type Group struct {
	*crashgroup.Group
	// Cores are the dumps of the group that are kept, newest first.
	Cores []Core `json:"cores"`
}
