package sched

import (
	"errors"
	"fmt"
	"math"

	"github.com/tritond/triton/pkg/triton"
)

// Request asks for a place for one container, and is what the snapshot remembers of it once it is placed.
type Request struct {
	Key    triton.ContainerKey `json:"key"`
	Name   string              `json:"name,omitempty"`
	Image  string              `json:"image"`  // as the tenant calls it
	CPU    float64             `json:"cpu"`    // cores promised; 0: none, Config.DefaultCPU is planned with
	Memory int64               `json:"memory"` // bytes promised; 0: none, Config.DefaultMemory is planned with
	// ImageID names the content of the image, which tenants share however they call it; "": Image does.
	ImageID string `json:"imageID,omitempty"`
	// MaxCPU (cores) and MaxMemory (bytes) are what the kernel lets it have at most; 0: all of the node.
	MaxCPU    float64           `json:"maxCPU,omitempty"`
	MaxMemory int64             `json:"maxMemory,omitempty"`
	Disk      int64             `json:"disk,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`

	Constraints []Constraint `json:"constraints,omitempty"`
	Tolerates   []string     `json:"tolerates,omitempty"` // taints of nodes it may run on
	Ports       []Port       `json:"ports,omitempty"`     // published on the node
	Volumes     []string     `json:"volumes,omitempty"`   // names; one that exists binds to the nodes that hold it

	// SpreadBy is a node label (such as zone): replicas, containers of the same tenant and image, are spread over its values.
	SpreadBy string   `json:"spreadBy,omitempty"`
	Strategy Strategy `json:"strategy,omitempty"`
	// LatencySensitive containers are kept from images measured to delay theirs.
	LatencySensitive bool `json:"latencySensitive,omitempty"`
	// Priority below 0 leaves Config.LowReserve of each node free; above 0 it may take the reserve of others. 0: usual.
	Priority int `json:"priority,omitempty"`
	// BestEffort requests are refused for lack of CPU or memory only where some of it is to be promised: else they go where it
	// costs least when no node fits. Decision.Despite then says what was overlooked.
	BestEffort bool `json:"bestEffort,omitempty"`
}

// Strategy says which of the nodes that fit is best.
type Strategy string

// The strategies. Spread, also "", takes the node with the lowest predicted peak; Pack the highest that fits.
const (
	Spread Strategy = "spread"
	Pack   Strategy = "pack"
)

// Port is published on the node and so taken once per node.
type Port struct {
	Proto  string `json:"proto"` // tcp, udp or sctp
	Number uint16 `json:"number"`
}

// String gives the port as docker writes it: 80/tcp.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Proto) }

// Quota bounds what a tenant may be promised over the whole fleet. Zero fields do not bound.
type Quota struct {
	CPU        float64 `json:"cpu,omitempty"`    // cores
	Memory     int64   `json:"memory,omitempty"` // bytes
	Containers int     `json:"containers,omitempty"`
}

// origin is whose history the request draws on.
func (r *Request) origin() Origin {
	return Origin{Tenant: r.Key.Tenant, Image: r.Image, ImageID: r.ImageID}
}

// Validate lists all that is wrong with the request.
func (r *Request) Validate() error {
	var errs []error
	if r.Key.ID == "" {
		errs = append(errs, errors.New("request without container id"))
	}
	for _, v := range [...]struct {
		name string
		v    float64
	}{{"cpu", r.CPU}, {"maxCPU", r.MaxCPU}} {
		if v.v < 0 || math.IsNaN(v.v) || math.IsInf(v.v, 0) {
			errs = append(errs, fmt.Errorf("%s %v: must be 0 or more cores", v.name, v.v))
		}
	}
	if r.Memory < 0 || r.MaxMemory < 0 || r.Disk < 0 {
		errs = append(errs, fmt.Errorf("memory %d, at most %d, disk %d: must be 0 or more bytes", r.Memory, r.MaxMemory, r.Disk))
	}
	if r.Strategy != "" && r.Strategy != Spread && r.Strategy != Pack {
		errs = append(errs, fmt.Errorf("strategy %q: not spread or pack", r.Strategy))
	}
	return errors.Join(errs...)
}
