package wire

import (
	"net/url"

	"github.com/tritond/triton/pkg/triton"
)

// RecorderPath answers Recorder of a running container.
func RecorderPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/recorder"
}

// Recorder is the flight recorder of a container.
type Recorder struct {
	ID      string             `json:"id"`
	Name    string             `json:"name"`
	Threads []triton.Recording `json:"threads"`        // that with the youngest call first
	More    int                `json:"more,omitempty"` // threads left out, whose last calls are older
}
