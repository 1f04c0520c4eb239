package main

import (
	"context"
	"io"
	"time"

	"github.com/tritond/triton/pkg/dockerapi"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/journal"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/triton"
)

// backend joins the node, the image store and the journal to what the Docker API is served from.
type backend struct {
	*node.Node
	images  *image.Store
	journal *journal.Set
	changes func() uint64 // of images
	info    func(context.Context, triton.Tenant) (triton.NodeInfo, error)
}

var _ dockerapi.Backend = backend{}

func (b backend) AttachContainer(ctx context.Context, key triton.ContainerKey, opt triton.AttachOptions) (dockerapi.Attachment, error) {
	return b.Node.AttachContainer(ctx, key, opt)
}

func (b backend) AttachExec(ctx context.Context, key triton.ExecKey, size [2]uint) (dockerapi.Attachment, error) {
	return b.Node.AttachExec(ctx, key, size)
}

func (b backend) StartContainer(ctx context.Context, key triton.ContainerKey) error {
	return notModified(b.Node.StartContainer(ctx, key))
}

func (b backend) StopContainer(ctx context.Context, key triton.ContainerKey, signal string, timeout *int) error {
	return notModified(b.Node.StopContainer(ctx, key, signal, timeout))
}

// notModified translates the node's way of saying so into the API's.
func notModified(err error) error {
	if node.IsNotModified(err) {
		return dockerapi.ErrNotModified
	}
	return err
}

// Changes adds two counters that only grow, so the sum is another one when either is.
func (b backend) Changes() uint64 { return b.Node.Changes() + b.changes() }

func (b backend) ListImages(ctx context.Context, tenant triton.Tenant) ([]triton.Image, error) {
	return b.images.List(ctx, tenant)
}

func (b backend) InspectImage(ctx context.Context, tenant triton.Tenant, ref string) (triton.Image, error) {
	return b.images.Inspect(ctx, tenant, ref)
}

func (b backend) LoadImages(ctx context.Context, tenant triton.Tenant, archive io.Reader, emit func(triton.ImageProgress) error) ([]string, error) {
	return b.images.Load(ctx, tenant, archive, emit)
}

func (b backend) ImportImage(ctx context.Context, tenant triton.Tenant, tar io.Reader, req triton.ImportRequest) (string, error) {
	return b.images.Import(ctx, tenant, tar, req)
}

func (b backend) PullImage(ctx context.Context, tenant triton.Tenant, req triton.PullRequest, emit func(triton.ImageProgress) error) error {
	return b.images.Pull(ctx, tenant, req, emit)
}

func (b backend) PushImage(ctx context.Context, tenant triton.Tenant, req triton.PushRequest, emit func(triton.ImageProgress) error) error {
	return b.images.Push(ctx, tenant, req, emit)
}

func (b backend) Login(ctx context.Context, auth triton.RegistryAuth) (string, error) {
	return b.images.Login(ctx, auth)
}

func (b backend) InspectRemote(ctx context.Context, ref string, auth triton.RegistryAuth) (triton.RegistryImage, error) {
	return b.images.InspectRemote(ctx, ref, auth)
}

func (b backend) TagImage(ctx context.Context, tenant triton.Tenant, source, target string) error {
	return b.images.Tag(ctx, tenant, source, target)
}

func (b backend) RemoveImage(ctx context.Context, tenant triton.Tenant, ref string, force bool) ([]dockerapi.ImageRemoval, error) {
	gone, err := b.images.Remove(ctx, tenant, ref, force)
	return removals(gone), err
}

func removals(gone []image.Removal) []dockerapi.ImageRemoval {
	out := make([]dockerapi.ImageRemoval, len(gone))
	for i, g := range gone {
		out[i] = dockerapi.ImageRemoval(g)
	}
	return out
}

func (b backend) PruneImages(ctx context.Context, tenant triton.Tenant, all bool, pick func(*triton.Image) bool) ([]dockerapi.ImageRemoval, int64, error) {
	gone, freed, err := b.images.Prune(ctx, tenant, all, pick)
	return removals(gone), freed, err
}

func (b backend) SaveImages(ctx context.Context, tenant triton.Tenant, refs []string, platform string, begin func() error, out io.Writer) error {
	return b.images.Save(ctx, tenant, refs, platform, begin, out)
}

func (b backend) ImageHistory(ctx context.Context, tenant triton.Tenant, ref string) ([]triton.ImageStep, error) {
	return b.images.History(ctx, tenant, ref)
}

func (b backend) NodeInfo(ctx context.Context, tenant triton.Tenant) (triton.NodeInfo, error) {
	return b.info(ctx, tenant)
}

func (b backend) Events(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	return b.journal.Stream(ctx, tenant, since, until, emit)
}
