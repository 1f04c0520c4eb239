package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/archive"
	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/volume"
)

// volumePlan is what the creation of a container does to volumes.
type volumePlan struct {
	made      []*volumeRecord // with names that the user gave; their records are written
	anonymous []*volumeRecord // for this container alone: written with its record
	claimed   []triton.VolumeKey
}

// planVolumes names the anonymous volumes of a spec, makes the missing ones with names, and keeps all of them from being
// removed until endPlan.
func (n *Node) planVolumes(ctx context.Context, tenant triton.Tenant, s *triton.Spec) (p *volumePlan, err error) {
	s.Mounts = slices.Clone(s.Mounts) // the caller's stay as they are
	declareVolumes(s)
	p = &volumePlan{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.endPlan(ctx, p, false))
		}
	}()
	n.vols.change.Lock()
	defer n.vols.change.Unlock()
	for i := range s.Mounts {
		if m := &s.Mounts[i]; m.Type == triton.MountVolume {
			if err := n.planMount(ctx, tenant, m, p); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// declareVolumes adds a mount for each declared path that no mount covers.
func declareVolumes(s *triton.Spec) {
	for _, target := range s.Volumes {
		target = path.Clean(target)
		if !slices.ContainsFunc(s.Mounts, func(m triton.Mount) bool { return m.Target == target }) {
			s.Mounts = append(s.Mounts, triton.Mount{Type: triton.MountVolume, Target: target, Declared: true})
		}
	}
}

// planMount prepares one mount of a volume. The caller holds vols.change.
func (n *Node) planMount(ctx context.Context, tenant triton.Tenant, m *triton.Mount, p *volumePlan) error {
	var spec triton.VolumeSpec
	if m.Volume != nil {
		spec = *m.Volume
	}
	if m.Source == "" {
		m.Source, m.Anonymous = triton.NewID(), true
		spec.MarkAnonymous()
		r, err := n.newVolume(triton.VolumeKey{Tenant: tenant, Name: m.Source}, spec)
		if err == nil {
			p.anonymous = append(p.anonymous, r)
		}
		return err
	}
	k := triton.VolumeKey{Tenant: tenant, Name: m.Source}
	r, made, err := n.makeVolume(ctx, k, spec)
	if err != nil {
		return err
	}
	if made {
		p.made = append(p.made, r)
	}
	n.vols.claims[k]++
	p.claimed = append(p.claimed, k)
	return nil
}

// endPlan gives up the claims: the container is known by now, or came to nothing, and the volumes made for it go.
func (n *Node) endPlan(ctx context.Context, p *volumePlan, created bool) error {
	n.vols.change.Lock()
	for _, k := range p.claimed {
		if n.vols.claims[k]--; n.vols.claims[k] <= 0 {
			delete(n.vols.claims, k)
		}
	}
	n.vols.change.Unlock()
	if created {
		return nil
	}
	var errs []error
	for _, r := range p.anonymous {
		errs = append(errs, n.cfg.Volumes.Undo(r.Key)) // their records are not written, or went with the container's
	}
	for _, r := range p.made {
		if err := n.RemoveVolume(ctx, r.Key); !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// anonymousOps are the part of a container's first transaction that makes its anonymous volumes.
func (p *volumePlan) anonymousOps() ([]cluster.Op, error) {
	var ops []cluster.Op
	for _, r := range p.anonymous {
		op, err := r.createOp()
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// populateVolumes gives volumes without files what the image has at their mount points, as docker does at create.
func (n *Node) populateVolumes(ctx context.Context, rec *Record) (err error) {
	var view *archive.View // made for the first volume that wants it
	defer func() {
		if view != nil {
			err = errors.Join(err, view.Close())
		}
	}()
	for i := range rec.Spec.Mounts {
		m := &rec.Spec.Mounts[i]
		if m.Type != triton.MountVolume || m.NoCopy || m.Inherited {
			continue
		}
		err := n.withVolume(rec, m, func(files string) error {
			var from *os.File
			defer func() { from.Close() }() // nil is fine
			return n.cfg.Volumes.Populate(rec.Key.MountedVolume(m), files, func() (_ string, err error) {
				if view == nil {
					if view, err = n.imageView(ctx, rec); err != nil {
						return "", err
					}
				}
				from, err = view.Dir(m.Target)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					return "", nil
				case errors.Is(err, syscall.ENOTDIR):
					return "", kindf(errdefs.ErrInvalidArgument, "cannot mount volume over existing file, file exists %s", m.Target)
				case err != nil:
					return "", err
				}
				return from.Name() + "/.", nil // the directory itself, not the link to it
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// useVolume makes a volume ready for a user and returns where its files are, until Volumes.Release.
func (n *Node) useVolume(k triton.VolumeKey, user string) (files string, err error) {
	r := n.vols.get(k)
	if r == nil {
		return "", noSuchVolume(k.Name)
	}
	return n.cfg.Volumes.Use(k, &r.Spec, user)
}

// withVolume calls f with where the files of a mount are.
func (n *Node) withVolume(rec *Record, m *triton.Mount, f func(files string) error) (err error) {
	k := rec.Key.MountedVolume(m)
	user := rec.Key.ID + "-create"
	files, err := n.useVolume(k, user)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.cfg.Volumes.Release(k, user)) }()
	if m.Subpath == "" {
		return f(files)
	}
	part, err := volume.OpenSubpath(files, m.Subpath)
	if err != nil {
		return nil // as in docker: what is not there gets no files, and the start will say so
	}
	defer part.Close()
	return f(part.Name())
}

// imageView shows the files of a container's image with the owners that they have there.
func (n *Node) imageView(ctx context.Context, rec *Record) (*archive.View, error) {
	rootfs, err := n.rootfs(ctx, rec.Key)
	if err != nil {
		return nil, err
	}
	return archive.Assemble(archive.Layout{
		At: n.viewDir(), Rootfs: shim.Rootfs{Lower: rootfs.Lower, Upper: rootfs.Upper, Work: rootfs.Work},
	})
}

// viewDir is the directory that views are mounted at, each where only its maker sees it.
func (n *Node) viewDir() string { return filepath.Join(n.cfg.RunRoot, "view") }

// mountedVolumes are the mounts of a run: those of volumes lead to where their files are.
type mountedVolumes struct {
	mounts []triton.Mount
	parts  []volume.Part // mounted until the container is made
	images []string      // as parts: mounts of images
}

func (n *Node) closeParts(v *mountedVolumes) {
	for _, p := range v.parts {
		if err := p.Close(); err != nil {
			n.log.Error("part of a volume is left mounted until the next start", "path", p.Path, "err", err)
		}
	}
	for _, at := range v.images {
		if err := unmountImage(at); err != nil {
			n.log.Error("an image is left mounted until the next start", "path", at, "err", err)
		}
	}
}

// useVolumes makes the volumes of a container ready for a run, which ends with releaseVolumes, also after an error.
func (n *Node) useVolumes(ctx context.Context, c *container) (*mountedVolumes, error) {
	v := &mountedVolumes{mounts: slices.Clone(c.rec.Spec.Mounts)}
	for i := range v.mounts {
		m := &v.mounts[i]
		if m.Type == triton.MountImage {
			if err := n.useImage(ctx, c, v, i); err != nil {
				return v, err
			}
			continue
		}
		if m.Type != triton.MountVolume {
			continue
		}
		k := c.key.MountedVolume(m)
		files, err := n.useVolume(k, c.key.ID)
		if err != nil {
			return v, err
		}
		if m.Subpath != "" {
			part, err := n.cfg.Volumes.Expose(files, m.Subpath, c.key.ID, i)
			if err != nil {
				return v, err
			}
			v.parts = append(v.parts, part)
			files = part.Path
		}
		m.Type, m.Source = triton.MountBind, files
		n.publish(n.volumeEvent("mount", k, map[string]string{
			"container": c.key.ID, "destination": m.Target, "propagation": "", "read/write": strconv.FormatBool(!m.ReadOnly),
		}))
	}
	return v, nil
}

// releaseVolumes ends the use of a container's volumes by a run.
func (n *Node) releaseVolumes(c *container) {
	n.forgetVolumes(c)
	for _, name := range volumeNames(&c.rec.Spec) {
		k := triton.VolumeKey{Tenant: c.key.Tenant, Name: name}
		n.publish(n.volumeEvent("unmount", k, map[string]string{"container": c.key.ID}))
	}
}

// forgetVolumes is releaseVolumes for a run that ended while no daemon lived. The volumes may be removed already.
func (n *Node) forgetVolumes(c *container) {
	for _, name := range volumeNames(&c.rec.Spec) {
		k := triton.VolumeKey{Tenant: c.key.Tenant, Name: name}
		if err := n.cfg.Volumes.Release(k, c.key.ID); err != nil {
			n.log.Error("volume not released, done at the next start", "volume", k, "container", c.key, "err", err)
		}
	}
}

// openVolumes reads the records, and notes the volumes that containers may be using.
func (n *Node) openVolumes(ctx context.Context) (complete bool, err error) {
	recs, bad, err := n.intent.volumes(ctx)
	if err != nil {
		return false, err
	}
	for _, b := range bad {
		n.log.Error("volume ignored: an operator must look at its record", "key", b.key, "err", b.err)
	}
	for _, r := range recs {
		n.vols.put(r)
	}
	return len(bad) == 0, nil
}

// populateNote is the name of a file in the directory of a container whose volumes may not have their first files yet.
const populateNote = "volumes-empty"

// populateLater notes, before a container is known, that its creation is not at its end.
func (n *Node) populateLater(c *container) error {
	if len(volumeNames(&c.rec.Spec)) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.dataDir, 0o711); err != nil {
		return err
	}
	return replaceFile(filepath.Join(c.dataDir, populateNote), nil)
}

// populated ends what populateLater began.
func (n *Node) populated(ctx context.Context, c *container) error {
	if len(volumeNames(&c.rec.Spec)) == 0 {
		return nil
	}
	if err := n.populateVolumes(ctx, &c.rec); err != nil {
		return err
	}
	return removeNote(filepath.Join(c.dataDir, populateNote))
}

// populateUnfinished finishes the creations that the last daemon died in.
func (n *Node) populateUnfinished(ctx context.Context) {
	for _, c := range n.all() {
		if _, err := os.Stat(filepath.Join(c.dataDir, populateNote)); err != nil {
			continue
		}
		if err := n.populated(ctx, c); err != nil {
			n.log.Error("volumes of a container did not get the image's files", "container", c.key, "err", err)
		}
	}
}

// holdVolumes keeps a container's mounts of volumes until it is known whether it runs.
func (n *Node) holdVolumes(c *container) {
	for _, name := range volumeNames(&c.rec.Spec) {
		n.cfg.Volumes.Hold(triton.VolumeKey{Tenant: c.key.Tenant, Name: name}, c.key.ID)
	}
}

// settleVolumes removes what a crash left of volumes, when it is known which containers run.
func (n *Node) settleVolumes(ctx context.Context) error {
	return n.cfg.Volumes.Reconcile(ctx, func(k triton.VolumeKey) bool { return n.vols.get(k) != nil })
}

// volumeSources are where the volumes of a container are on this machine, by name.
func (n *Node) volumeSources(c *container) map[string]string {
	var sources map[string]string
	for _, name := range volumeNames(&c.rec.Spec) {
		if r := n.vols.get(triton.VolumeKey{Tenant: c.key.Tenant, Name: name}); r != nil {
			if sources == nil {
				sources = map[string]string{}
			}
			sources[name] = n.cfg.Volumes.Path(r.Key, &r.Spec)
		}
	}
	return sources
}

// forgetIdle ends what holdVolumes began, for a container that turned out not to run.
func (n *Node) forgetIdle(c *container) {
	c.mu.Lock()
	running := c.running()
	c.mu.Unlock()
	if !running {
		n.forgetVolumes(c)
	}
}
