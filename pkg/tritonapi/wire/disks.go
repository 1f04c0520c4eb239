package wire

import (
	"net/url"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// DisksPath answers Disks of one container.
func DisksPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/disks"
}

// Disks tells what block devices did for a container since its start.
type Disks struct {
	At    time.Time `json:"at"`
	Name  string    `json:"name"` // of the container
	Disks []Disk    `json:"disks"`
}

// Disk is one device in one direction, in order of name, reads first.
type Disk struct {
	Device    string           `json:"device"` // as in /dev; MAJOR:MINOR where it is gone
	Operation string           `json:"operation"`
	Requests  uint64           `json:"requests"`
	Bytes     uint64           `json:"bytes"`
	Durations triton.Histogram `json:"durations"`
	Untimed   uint64           `json:"untimed,omitempty"` // requests that Durations lack: the device keeps no statistics
}
