package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/archive"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/triton"
)

// rootfs finds the directories that a container's root file system is made of.
func (n *Node) rootfs(ctx context.Context, key triton.ContainerKey) (image.Rootfs, error) {
	rootfs, err := n.cfg.Images.Rootfs(ctx, key)
	if err != nil {
		return rootfs, fmt.Errorf("find file system of %s: %w", key, err)
	}
	return rootfs, nil
}

// ContainerChanges lists what a container has changed of its image's files, by path.
func (n *Node) ContainerChanges(ctx context.Context, key triton.ContainerKey) ([]triton.FileChange, error) {
	if _, err := n.get(key); err != nil {
		return nil, err
	}
	rootfs, err := n.rootfs(ctx, key)
	if err != nil {
		return nil, err
	}
	return archive.Changes(rootfs.Upper, rootfs.Lower)
}

// ContainerSize is the bytes of what a container has written over its image.
func (n *Node) ContainerSize(ctx context.Context, key triton.ContainerKey) (int64, error) {
	if _, err := n.get(key); err != nil {
		return 0, err
	}
	rootfs, err := n.rootfs(ctx, key)
	if err != nil {
		return 0, err
	}
	return archive.Size(rootfs.Upper)
}

// PruneContainers removes the containers that do not run and that want accepts. It returns their ids and their bytes.
func (n *Node) PruneContainers(ctx context.Context, tenant triton.Tenant, want func(*triton.Container) bool) ([]string, int64, error) {
	var gone []string
	var freed int64
	for _, c := range n.ofTenant(tenant) {
		v := c.view(n.cgroupPath(c.key))
		if v.State.Status.Runs() || !want(&v) {
			continue
		}
		size, err := n.ContainerSize(ctx, c.key)
		if err == nil {
			err = n.RemoveContainer(ctx, c.key, false, false)
		}
		switch {
		case errdefs.IsFailedPrecondition(err), errdefs.IsNotFound(err): // started or removed just now
		case err != nil:
			return gone, freed, err
		default:
			gone = append(gone, c.key.ID)
			freed += size
		}
	}
	slices.Sort(gone)
	n.pruned(tenant, triton.EventContainer, freed)
	return gone, freed, nil
}

// pruned tells that a tenant's objects of one type were looked through, and how many bytes that freed.
func (n *Node) pruned(tenant triton.Tenant, kind string, freed int64) {
	n.publish(triton.Event{
		Time: n.cfg.Now().UTC(), Tenant: tenant, Type: kind, Action: "prune",
		Attributes: map[string]string{"reclaimed": strconv.FormatInt(freed, 10)},
	})
}

// CommitContainer makes an image of a container's files, without what it mounts, and returns its id.
func (n *Node) CommitContainer(ctx context.Context, key triton.ContainerKey, req triton.CommitRequest) (id string, err error) {
	c, err := n.get(key)
	if err != nil {
		return "", err
	}
	rootfs, err := n.rootfs(ctx, key)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	spec, ids, pause := c.rec.Spec, c.rec.IDs, req.Pause && c.state.Status == triton.StatusRunning
	c.mu.Unlock()
	if pause {
		switch err := n.freeze(ctx, c, true); {
		case errdefs.IsFailedPrecondition(err): // ended or frozen just now: it stands still
		case err != nil:
			return "", err
		default:
			defer func() {
				if c.paused() {
					err = errors.Join(err, n.freeze(context.WithoutCancel(ctx), c, false))
				}
			}()
		}
	}
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() {
		defer close(packed)
		w.CloseWithError(archive.PackLayer(ctx, rootfs.Upper, rootfs.Lower, ids, w))
	}()
	id, err = n.cfg.Images.Commit(ctx, key.Tenant, spec.ImageID, r, spec.ImageConfig(), req)
	r.Close() // ends the packing, if an error came first
	<-packed
	if err == nil {
		n.publish(c.event("commit", n.cfg.Now().UTC(), map[string]string{"comment": req.Message, "imageID": id, "imageRef": req.Ref}))
	}
	return id, err
}
