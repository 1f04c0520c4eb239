package node

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/archive"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// inside calls f with a view of a container's files, with all that it mounts of this machine if whole. One that does not run
// does not begin to meanwhile.
func (n *Node) inside(ctx context.Context, key triton.ContainerKey, whole bool, f func(*container, *archive.View) error) (err error) {
	c, err := n.get(key)
	if err != nil {
		return err
	}
	c.life.Lock()
	locked := true
	defer func() {
		if locked {
			c.life.Unlock()
		}
	}()
	c.mu.Lock()
	running, removing := c.running(), c.removing
	c.mu.Unlock()
	if removing {
		return noSuchContainer(key.ID)
	}
	view, release, err := n.view(ctx, c, running, whole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close(), release()) }()
	if running { // its end needs the lock; the view outlives it
		locked = false
		c.life.Unlock()
	}
	return f(c, view)
}

// view makes the view of a container whose life the caller has locked. release ends the use of its volumes.
func (n *Node) view(ctx context.Context, c *container, running, whole bool) (_ *archive.View, release func() error, err error) {
	var undo undoing
	defer func() { undo.unless(err == nil) }()
	if err := n.restoreEndpoint(ctx, c); err != nil { // a reboot removes the namespaces
		return nil, nil, err
	}
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	layout := archive.Layout{At: n.viewDir(), IDs: rec.IDs, ReadOnly: rec.Spec.ReadonlyRootfs}
	if layout.UserNS, err = n.userNSOf(c); err != nil {
		return nil, nil, err
	}
	if running {
		layout.Mounted = n.cfg.Runtime.RootfsDir(c.key)
	} else {
		rootfs, err := n.rootfs(ctx, c.key)
		if err != nil {
			return nil, nil, err
		}
		layout.Rootfs = shim.Rootfs{Lower: rootfs.Lower, Upper: rootfs.Upper, Work: rootfs.Work}
	}
	release = func() error { return nil }
	if whole {
		var used func() error
		layout.Binds, used, err = n.viewBinds(ctx, c)
		undo.add(func() { err = errors.Join(err, used()) })
		if err != nil {
			return nil, nil, err
		}
		release = used
	}
	view, err := archive.Assemble(layout)
	return view, release, err
}

// userNSOf is the path of the user namespace that a container has or shares; empty for the host's.
func (n *Node) userNSOf(c *container) (string, error) {
	for range 100 { // a container may share one that shares one
		c.mu.Lock()
		ids, ep, mode := c.rec.IDs, c.rec.Endpoint, c.rec.Spec.NetworkMode
		c.mu.Unlock()
		if ids.IsZero() || ep.UserNS != "" {
			return ep.UserNS, nil
		}
		id, ok := strings.CutPrefix(mode, triton.ContainerModePrefix)
		if !ok {
			break
		}
		other, err := n.get(triton.ContainerKey{Tenant: c.key.Tenant, ID: id})
		if err != nil {
			return "", kindf(errdefs.ErrFailedPrecondition, "the container %s, whose user namespace container %s shares, is gone",
				triton.ShortID(id), triton.ShortID(c.key.ID))
		}
		c = other
	}
	return "", kindf(errdefs.ErrFailedPrecondition, "container %s has no user namespace", c.key.ID)
}

// viewBinds are the files of this machine that a container mounts. used ends the use of volumes, also after an error.
func (n *Node) viewBinds(ctx context.Context, c *container) (binds []archive.Bind, used func() error, err error) {
	var closers []func() error
	used = func() error {
		var errs []error
		for _, f := range closers {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	user := c.key.ID + "-files-" + triton.NewID() // several may be under way
	for i := range c.rec.Spec.Mounts {
		m := c.rec.Spec.Mounts[i]
		b := archive.Bind{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, ReadOnlyTop: m.ReadOnlyTop, Flat: m.NonRecursive}
		switch m.Type {
		case triton.MountTmpfs:
			continue // as in docker: it is the run's, not the container's
		case triton.MountImage:
			at, err := n.mountImage(ctx, c, m.Target)
			if err != nil {
				return nil, used, err
			}
			closers = append(closers, func() error { return unmountImage(at) })
			b.Source, b.Unmapped = filepath.Join(at, imageRoot), true
		case triton.MountVolume:
			k := c.key.MountedVolume(&m)
			if b.Source, err = n.useVolume(k, user); err != nil {
				return nil, used, err
			}
			closers = append(closers, func() error { return n.cfg.Volumes.Release(k, user) })
		}
		if m.Subpath != "" { // mounted: a descriptor leads to a mount that the view's own namespace has only a copy of
			part, err := n.cfg.Volumes.Expose(b.Source, m.Subpath, user, i)
			if err != nil {
				return nil, used, err
			}
			closers = append([]func() error{part.Close}, closers...) // before what it is a part of
			b.Source = part.Path
		}
		binds = append(binds, b)
	}
	files := networkFiles(c.dataDir)
	if id, ok := strings.CutPrefix(c.rec.Spec.NetworkMode, triton.ContainerModePrefix); ok {
		if other, err := n.get(triton.ContainerKey{Tenant: c.key.Tenant, ID: id}); err == nil {
			files = networkFiles(other.dataDir)
		}
	}
	for target, source := range map[string]string{"/etc/hosts": files.Hosts, "/etc/hostname": files.Hostname, "/etc/resolv.conf": files.ResolvConf} {
		if _, err := os.Stat(source); err == nil { // made at the first start
			binds = append(binds, archive.Bind{Source: source, Target: target, ReadOnly: c.rec.Spec.ReadonlyRootfs, Unmapped: true})
		}
	}
	return binds, used, nil
}

// StatPath looks at a path of a container, running or not. *fs.PathError with Op lstat: nothing is there.
func (n *Node) StatPath(ctx context.Context, key triton.ContainerKey, path string) (st triton.PathStat, err error) {
	err = n.inside(ctx, key, true, func(_ *container, v *archive.View) error {
		s, err := v.Stat(path)
		st = triton.PathStat(s)
		return err
	})
	return st, err
}

// ReadFiles writes a path of a container as a tar. begin is called before its first byte; errors before are StatPath's.
func (n *Node) ReadFiles(ctx context.Context, key triton.ContainerKey, path string, begin func(triton.PathStat) error, out io.Writer) error {
	return n.inside(ctx, key, true, func(c *container, v *archive.View) error {
		return v.Pack(ctx, path, func(s archive.Stat) error {
			n.publish(c.event("archive-path", n.cfg.Now().UTC(), nil))
			return begin(triton.PathStat(s))
		}, out)
	})
}

// WriteFiles unpacks a tar, plain or compressed, into a directory of a container. *fs.PathError with Op lstat: it is not there.
func (n *Node) WriteFiles(ctx context.Context, key triton.ContainerKey, req triton.UnpackRequest, in io.Reader) error {
	return n.inside(ctx, key, true, func(c *container, v *archive.View) error {
		opt := archive.UnpackOptions{KeepKinds: req.KeepKinds}
		if user := c.rec.Spec.User; req.AsUser && user != "" {
			uid, gid, err := runtime.LookupUser(runtime.Layers{v.Path()}, user, c.rec.IDs)
			if err != nil {
				return err
			}
			opt.Owner = &archive.Owner{UID: int(uid), GID: int(gid)}
		}
		plain, err := image.Decompress(in)
		if err != nil {
			return kindf(errdefs.ErrInvalidArgument, "%v", err)
		}
		defer plain.Close()
		if err := v.Unpack(ctx, req.Path, plain, opt); err != nil {
			return err
		}
		n.publish(c.event("extract-to-dir", n.cfg.Now().UTC(), nil))
		return nil
	})
}

// ExportFiles writes the files of a container without what it mounts. begin is called before the first byte.
func (n *Node) ExportFiles(ctx context.Context, key triton.ContainerKey, begin func() error, out io.Writer) error {
	return n.inside(ctx, key, false, func(c *container, v *archive.View) error {
		if err := begin(); err != nil {
			return err
		}
		n.publish(c.event("export", n.cfg.Now().UTC(), nil))
		return v.Export(ctx, out)
	})
}
