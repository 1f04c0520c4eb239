package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/triton"
)

// RenameContainer gives a container another name; errdefs.ErrAlreadyExists when the tenant has a container of that name.
func (n *Node) RenameContainer(ctx context.Context, key triton.ContainerKey, name string) error {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return kindf(errdefs.ErrInvalidArgument, "Neither old nor new names may be empty")
	}
	c.life.Lock() // no removal meanwhile: it frees the name that it finds
	defer c.life.Unlock()
	c.agreeing.Lock()
	defer c.agreeing.Unlock()
	c.mu.Lock()
	rec, revision, removing := c.rec, c.revision, c.removing
	c.mu.Unlock()
	old := rec.Name
	switch {
	case removing:
		return noSuchContainer(key.ID)
	case name == old:
		return kindf(errdefs.ErrInvalidArgument, "Renaming a container with the same name as its current name")
	case !validName.MatchString(name):
		return kindf(errdefs.ErrInvalidArgument, "Error when allocating new name: Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	ctx = context.WithoutCancel(ctx) // the index must follow what was agreed on
	rec.Name = name
	if revision, err = n.intent.rename(ctx, &rec, old, revision); err != nil {
		if errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("Error when allocating new name: %w", n.explainConflict(key.Tenant, name, err))
		}
		return fmt.Errorf("rename %s: %w", key, err)
	}
	n.mu.Lock()
	delete(n.names, nameKey{key.Tenant, old})
	n.names[nameKey{key.Tenant, name}] = key
	c.mu.Lock()
	c.rec.Name, c.revision = name, revision
	c.mu.Unlock()
	n.mu.Unlock()
	n.changed()
	n.cfg.Placement.Rename(key, name)
	if err := n.announce(ctx, c); err != nil { // it has its name all the same
		n.log.Error("new name not announced to the resolver", "container", key, "err", err)
	}
	n.publish(c.event("rename", n.cfg.Now().UTC(), map[string]string{"oldName": "/" + old}))
	return nil
}

// rename replaces a record that still has the given revision, takes its new name and frees the old one, or does nothing.
func (s intent) rename(ctx context.Context, r *Record, old string, revision int64) (int64, error) {
	b, err := encodeRecord(r)
	if err != nil {
		return 0, err
	}
	return s.kv.Txn(ctx,
		cluster.CreateOp(namePath(r.Key.Tenant, r.Name), []byte(r.Key.ID)),
		cluster.DeleteOp(namePath(r.Key.Tenant, old), 0),
		cluster.UpdateOp(containerPath(r.Key), b, revision))
}
