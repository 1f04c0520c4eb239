package dockerapi

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// ErrNotModified is returned, alone or wrapped, when the object is already as asked for: start of a running container,
// stop of a stopped one. Clients see 304.
var ErrNotModified = errdefs.ErrNotModified

// ErrDetached is what the stdin reader given to Attachment.Serve returns once the user typed the detach keys, or left a
// terminal or a stdin that outlives the client: Serve returns it, and leaves the process and its stdin as they are.
var ErrDetached = errors.New("detached")

// Containers is what the container endpoints need. Errors carry errdefs kinds: NotFound 404, AlreadyExists and
// FailedPrecondition (Conflict) 409, InvalidArgument 400, PermissionDenied 403, Unimplemented 501,
// ResourceExhausted and Unavailable 503; NotModified is reported by ErrNotModified.
type Containers interface {
	// ResolveContainer finds a container by name, id or unique id prefix.
	ResolveContainer(ctx context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error)
	// CreateContainer makes a container, or fails with AlreadyExists when the name is taken. An empty name asks for a
	// random one. spec is complete: the image's defaults are merged in, ImageID is set, container:X modes carry full ids.
	// The strings are warnings for the user.
	CreateContainer(ctx context.Context, tenant triton.Tenant, name string, spec triton.Spec) (triton.ContainerKey, []string, error)
	StartContainer(ctx context.Context, key triton.ContainerKey) error
	// StopContainer sends the signal ("": the container's), and SIGKILL after timeout seconds (nil: the container's; -1: never).
	StopContainer(ctx context.Context, key triton.ContainerKey, signal string, timeout *int) error
	RestartContainer(ctx context.Context, key triton.ContainerKey, signal string, timeout *int) error
	KillContainer(ctx context.Context, key triton.ContainerKey, signal string) error
	// RemoveContainer removes the anonymous volumes that only it mounts as well, if volumes is set.
	RemoveContainer(ctx context.Context, key triton.ContainerKey, force, volumes bool) error
	// RemoveLink takes a link of the default network away by its alias; NotFound for none.
	RemoveLink(ctx context.Context, key triton.ContainerKey, alias string) error
	// WaitContainer subscribes at once and returns a function that blocks until the condition holds.
	WaitContainer(ctx context.Context, key triton.ContainerKey, until triton.WaitCondition) (func(context.Context) (triton.ExitRecord, error), error)
	InspectContainer(ctx context.Context, key triton.ContainerKey) (triton.Container, error)
	ListContainers(ctx context.Context, tenant triton.Tenant) ([]triton.Container, error)
	// Changes returns a number that is another one whenever ListContainers or ListImages may give something else than
	// when it was read last: until then an answer may be given again.
	Changes() uint64
	ResizeContainer(ctx context.Context, key triton.ContainerKey, height, width uint) error
	// AttachContainer may be called before the container runs: the streams begin with its first byte.
	AttachContainer(ctx context.Context, key triton.ContainerKey, opt triton.AttachOptions) (Attachment, error)
	// ContainerLogs calls emit for each record, oldest first; with Follow it blocks until the container ends.
	ContainerLogs(ctx context.Context, key triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error
}

// Attachment is a client's connection to the streams of a process.
type Attachment interface {
	// Serve copies stdin to the process and its output to out, until the output ended, ctx is done or stdin's Read
	// returns ErrDetached. Output is docker's multiplexed stream, or raw bytes for a terminal. stdin is nil when it
	// was not asked for; its io.EOF half-closes: the process sees the end of its input, the output goes on.
	Serve(ctx context.Context, stdin io.Reader, out io.Writer) error
	// LogEnd is where the log ended when the output began, which goes on from there, with AttachOptions.AfterLog; nil: not known.
	LogEnd() *triton.LogPlace
	// Left tells that the client of a served Attachment typed the detach keys.
	Left()
	// Close gives up an Attachment that is not served.
	Close() error
}

// Execs is what the exec endpoints need.
type Execs interface {
	CreateExec(ctx context.Context, key triton.ContainerKey, spec triton.ExecSpec) (string, error)
	ResolveExec(ctx context.Context, tenant triton.Tenant, id string) (triton.ExecKey, error)
	// AttachExec gives the streams; Serve starts the process. An exec starts once.
	AttachExec(ctx context.Context, key triton.ExecKey, size [2]uint) (Attachment, error)
	// StartExec starts without streams.
	StartExec(ctx context.Context, key triton.ExecKey) error
	InspectExec(ctx context.Context, key triton.ExecKey) (triton.Exec, error)
	ResizeExec(ctx context.Context, key triton.ExecKey, height, width uint) error
}

// Images is what the image endpoints need.
type Images interface {
	ListImages(ctx context.Context, tenant triton.Tenant) ([]triton.Image, error)
	// InspectImage finds an image by reference, id or unique id prefix.
	InspectImage(ctx context.Context, tenant triton.Tenant, ref string) (triton.Image, error)
	// LoadImages reads a docker or OCI archive, plain or compressed, and returns what `docker load` prints, a line each.
	// emit, if not nil, is told of the layers.
	LoadImages(ctx context.Context, tenant triton.Tenant, archive io.Reader, emit func(triton.ImageProgress) error) ([]string, error)
	// ImportImage makes an image of one layer from a root file system's tar.
	ImportImage(ctx context.Context, tenant triton.Tenant, tar io.Reader, req triton.ImportRequest) (string, error)
	// SaveImages writes an archive of the images. begin is called before its first byte, when most errors are excluded.
	SaveImages(ctx context.Context, tenant triton.Tenant, refs []string, platform string, begin func() error, out io.Writer) error
	// ImageHistory lists the steps an image was made by, the last first.
	ImageHistory(ctx context.Context, tenant triton.Tenant, ref string) ([]triton.ImageStep, error)
	// PruneImages removes unused images that pick takes, those with tags only if all, and returns the bytes that went.
	PruneImages(ctx context.Context, tenant triton.Tenant, all bool, pick func(*triton.Image) bool) ([]ImageRemoval, int64, error)
	TagImage(ctx context.Context, tenant triton.Tenant, source, target string) error
	// RemoveImage returns what was untagged and deleted, in docker's order.
	RemoveImage(ctx context.Context, tenant triton.Tenant, ref string, force bool) ([]ImageRemoval, error)
}

// ImageRemoval is one line of `docker rmi`: exactly one field is set.
type ImageRemoval struct{ Untagged, Deleted string }

// Networks is what the network endpoints need besides Containers. Networks that there always are (bridge, host, none) are
// not among those it lists. PermissionDenied is docker's 403 for what a network's state does not allow.
type Networks interface {
	CreateNetwork(ctx context.Context, tenant triton.Tenant, spec triton.NetworkSpec) (triton.NetworkKey, error)
	ListNetworks(ctx context.Context, tenant triton.Tenant) ([]triton.NetworkInfo, error)
	// DefaultNetwork describes the tenant's bridge. Where there is none yet it is made, or else described without its addresses.
	DefaultNetwork(ctx context.Context, tenant triton.Tenant, make bool) (triton.NetworkInfo, error)
	// RemoveNetwork takes an id; ids of networks that there always are stand for themselves by name.
	RemoveNetwork(ctx context.Context, tenant triton.Tenant, ref string) error
	// PruneNetworks removes those that no container is in and that want accepts, and returns their names.
	PruneNetworks(ctx context.Context, tenant triton.Tenant, want func(triton.NetworkInfo) bool) ([]string, error)
	// ConnectNetwork makes a container take part in the network m.Network, an id or bridge.
	ConnectNetwork(ctx context.Context, key triton.ContainerKey, m triton.Membership) error
	DisconnectNetwork(ctx context.Context, key triton.ContainerKey, ref string) error
}

// Volumes is what the volume endpoints need besides Containers.
type Volumes interface {
	// CreateVolume finds the volume where there is one of this name. An empty name asks for one that is made up.
	CreateVolume(ctx context.Context, tenant triton.Tenant, name string, spec triton.VolumeSpec) (triton.VolumeInfo, error)
	ListVolumes(ctx context.Context, tenant triton.Tenant) ([]triton.VolumeInfo, error)
	InspectVolume(ctx context.Context, key triton.VolumeKey) (triton.VolumeInfo, error)
	// VolumeSize reads all directories of a volume.
	VolumeSize(ctx context.Context, key triton.VolumeKey) (int64, error)
	// RemoveVolume removes a volume that no container mounts; FailedPrecondition where one does.
	RemoveVolume(ctx context.Context, key triton.VolumeKey) error
	// PruneVolumes removes those that no container mounts and that want accepts. It returns their names and their bytes.
	PruneVolumes(ctx context.Context, tenant triton.Tenant, want func(*triton.VolumeInfo) bool) ([]string, int64, error)
}

// Files is what the endpoints need that copy files into and out of containers, running or not. An *fs.PathError with Op
// lstat says that the path itself is not there.
type Files interface {
	StatPath(ctx context.Context, key triton.ContainerKey, path string) (triton.PathStat, error)
	// ReadFiles writes a path as a tar. begin is called before its first byte, when the path is known to exist.
	ReadFiles(ctx context.Context, key triton.ContainerKey, path string, begin func(triton.PathStat) error, out io.Writer) error
	// WriteFiles unpacks a tar, plain or compressed.
	WriteFiles(ctx context.Context, key triton.ContainerKey, req triton.UnpackRequest, tar io.Reader) error
	// ContainerChanges lists what differs from the image, by path.
	ContainerChanges(ctx context.Context, key triton.ContainerKey) ([]triton.FileChange, error)
	// ContainerSize is the bytes that a container has written over its image.
	ContainerSize(ctx context.Context, key triton.ContainerKey) (int64, error)
	// PruneContainers removes those that do not run and that want accepts. It returns their ids and their bytes.
	PruneContainers(ctx context.Context, tenant triton.Tenant, want func(*triton.Container) bool) ([]string, int64, error)
	// CommitContainer makes an image of a container, and returns its id.
	CommitContainer(ctx context.Context, key triton.ContainerKey, req triton.CommitRequest) (string, error)
	// ExportFiles writes all files as a tar, without what is mounted. begin is called before its first byte.
	ExportFiles(ctx context.Context, key triton.ContainerKey, begin func() error, out io.Writer) error
}

// System is what the system endpoints need.
type System interface {
	NodeInfo(ctx context.Context, tenant triton.Tenant) (triton.NodeInfo, error)
	// Events calls emit for each event of the tenant from since on (zero: from now), until ctx ends or until passed.
	Events(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error
}

// Backend is all that the API is served from.
type Backend interface {
	Containers
	Life
	Execs
	Images
	Networks
	Volumes
	Files
	Registries
	System
}
