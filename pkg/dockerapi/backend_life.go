package dockerapi

import (
	"context"

	"github.com/tritond/triton/pkg/triton"
)

// Life is what the endpoints about a container's life between start and end need. Errors are those of Containers.
type Life interface {
	// PauseContainer freezes a container that runs, UnpauseContainer lets it go on.
	PauseContainer(ctx context.Context, key triton.ContainerKey) error
	UnpauseContainer(ctx context.Context, key triton.ContainerKey) error
	// UpdateContainer changes limits and the restart policy; FailedPrecondition (409) where they do not go together with what
	// the container has. The strings are warnings.
	UpdateContainer(ctx context.Context, key triton.ContainerKey, u triton.Update) ([]string, error)
	// RenameContainer fails with AlreadyExists when the name is taken.
	RenameContainer(ctx context.Context, key triton.ContainerKey, name string) error
	// TopContainer is what ps with the given options ("": -ef) prints of the container's processes.
	TopContainer(ctx context.Context, key triton.ContainerKey, options string) (triton.ProcessTable, error)
	// ContainerStats is a reading of now; nil without an error for a container that does not run.
	ContainerStats(ctx context.Context, key triton.ContainerKey) (*triton.Stats, error)
}
