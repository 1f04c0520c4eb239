package triton

import (
	"maps"
	"time"
)

// VolumeKey identifies a volume by its name, which is unique for a tenant.
type VolumeKey struct {
	Tenant Tenant `json:"tenant"`
	Name   string `json:"name"`
}

// String gives tenant/name, for logs.
func (k VolumeKey) String() string { return string(k.Tenant) + "/" + k.Name }

// VolumeSpec is what a user wants a volume to be. Nothing in it changes after the volume was made.
type VolumeSpec struct {
	// Options are those of docker's local driver: type, o and device; none for a plain directory.
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// AnonymousLabel is docker's mark of volumes that got their name from the engine: prune removes these.
const AnonymousLabel = "com.docker.volume.anonymous"

// VolumeDriver is the only driver that there is.
const VolumeDriver = "local"

// Anonymous reports whether the volume was made without a name.
func (s *VolumeSpec) Anonymous() bool {
	_, ok := s.Labels[AnonymousLabel]
	return ok
}

// MarkAnonymous marks a volume whose name the engine made up. The map that the user gave is not touched.
func (s *VolumeSpec) MarkAnonymous() {
	labels := make(map[string]string, len(s.Labels)+1)
	maps.Copy(labels, s.Labels)
	labels[AnonymousLabel] = ""
	s.Labels = labels
}

// VolumeInfo is everything known of a volume.
type VolumeInfo struct {
	Key        VolumeKey
	Created    time.Time
	Spec       VolumeSpec
	Mountpoint string // where its files are on this machine; with options: while it is in use
	// Users are the ids of the containers, running or not, that mount it, sorted.
	Users []string
}

// MountedVolume returns the volume that a Mount shows. The Mount must be one of a volume.
func (k ContainerKey) MountedVolume(m *Mount) VolumeKey { return VolumeKey{k.Tenant, m.Source} }
