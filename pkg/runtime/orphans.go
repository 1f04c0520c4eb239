package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Orphans removes what crashes left of containers that keep does not claim: processes, control groups, mounts, run
// directories, shims and their files. It returns what it removed. Call it before containers are created: a control group
// without a run directory is a leftover to it. What cannot be attributed to a container is left and logged.
func (r *Runtime) Orphans(ctx context.Context, keep func(triton.ContainerKey) bool) ([]string, error) {
	var gone []string
	kept, unknown, err := r.orphanRuns(ctx, keep, &gone)
	errs := []error{err}
	errs = append(errs, r.orphanShims(ctx, kept, &gone))
	if !unknown {
		errs = append(errs, r.orphanGroups(kept, &gone))
	}
	return gone, errors.Join(errs...)
}

// orphanRuns removes run directories. kept are the ids of those that stay, unknown tells that some could not be read.
func (r *Runtime) orphanRuns(ctx context.Context, keep func(triton.ContainerKey) bool, gone *[]string) (kept map[string]bool, unknown bool, err error) {
	dirs, err := os.ReadDir(r.path(containersDir))
	if err != nil {
		return nil, true, fmt.Errorf("list run directories: %w", err)
	}
	kept = map[string]bool{}
	var errs []error
	for _, d := range dirs {
		c, err := r.identify(d.Name())
		if err != nil {
			r.log.Error("run directory belongs to nobody known, and stays", "dir", d.Name(), "err", err)
			kept[d.Name()], unknown = true, true
			continue
		}
		if keep(c.Key) {
			kept[d.Name()] = true
			continue
		}
		if err := r.end(ctx, c); err != nil {
			errs = append(errs, fmt.Errorf("remove leftover of %s: %w", c.Key, err))
			kept[d.Name()] = true
			continue
		}
		*gone = append(*gone, "container "+c.Key.String())
	}
	return kept, unknown, errors.Join(errs...)
}

// identify reads whose run directory it is.
func (r *Runtime) identify(id string) (claim, error) {
	c, err := readClaim(r.runDir(id))
	if err == nil {
		return c, nil
	}
	req, rerr := readCreate(r.runDir(id))
	if rerr != nil || req.Key.ID != id {
		return claim{}, errors.Join(err, rerr)
	}
	return claim{Key: req.Key, Run: req.Run, CgroupPath: req.CgroupPath, ExitDir: req.ExitDir}, nil
}

// end kills a container and removes its run-time state, by its shim if that lives.
func (r *Runtime) end(ctx context.Context, c claim) error {
	ctx, cancel := context.WithTimeout(ctx, 2*loadBound)
	defer cancel()
	if client, _, err := r.dial(ctx, r.sockOf(c.Shim)); err == nil {
		if err := client.Delete(ctx, true); err != nil {
			r.log.Warn("shim could not delete its container", "container", c.Key, "err", err)
		}
		_ = client.Shutdown(ctx) // of one that holds none; the others are ending and refuse or are gone
		client.Close()
	}
	if err := r.sweep(ctx, c); err != nil {
		return err
	}
	sock := r.sockOf(c.Shim)
	os.Remove(sock)
	os.Remove(logOf(sock))
	return r.cfg.ForgetParent(c.ShimPid)
}

// orphanShims removes dead sockets, and ends shims that hold a container without a run directory, or none at all.
func (r *Runtime) orphanShims(ctx context.Context, kept map[string]bool, gone *[]string) error {
	files, err := filepath.Glob(r.path(shimsDir, "*"))
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, f := range files {
		ids[strings.TrimSuffix(filepath.Base(f), filepath.Ext(f))] = true
	}
	for id := range ids {
		r.mu.Lock()
		ours := r.own[id] != nil
		r.mu.Unlock()
		if ours || r.endShim(ctx, id, kept) {
			continue
		}
		*gone = append(*gone, "shim "+id)
	}
	return nil
}

// endShim ends a shim that is nobody's; true: it stays.
func (r *Runtime) endShim(ctx context.Context, id string, kept map[string]bool) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*loadBound)
	defer cancel()
	client, hello, err := r.dial(ctx, r.sockOf(id))
	if err != nil && !isGone(err) {
		r.log.Error("shim does not answer, and stays", "shim", id, "err", err)
		return true
	}
	if err == nil {
		defer client.Close()
		if hello.Container != nil && kept[hello.Container.ID] {
			return true
		}
		if hello.Container != nil {
			err = client.Delete(ctx, true)
		} else {
			err = client.Shutdown(ctx)
		}
		if err != nil && !isGone(err) {
			r.log.Error("shim does not end", "shim", id, "err", err)
			return true
		}
	}
	os.Remove(r.sockOf(id))
	os.Remove(logOf(r.sockOf(id)))
	return false
}

// orphanGroups removes control groups without a run directory, and what runs in them.
func (r *Runtime) orphanGroups(kept map[string]bool, gone *[]string) error {
	names, err := r.cg.Children(r.ownGroup())
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if name == shimsDir || kept[name] {
			continue
		}
		path := r.ownGroup() + "/" + name
		if err := errors.Join(r.cg.Kill(path), r.cg.Remove(path)); err != nil {
			errs = append(errs, err)
			continue
		}
		*gone = append(*gone, "control group "+path)
	}
	return errors.Join(errs...)
}

// sweep removes the run-time state of a run that no shim will remove: processes, control groups, what the keeper holds,
// mounts, files. It finds nothing to do after a shim that did.
func (r *Runtime) sweep(ctx context.Context, c claim) error {
	dir := r.runDir(c.Key.ID)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var errs []error
	if c.CgroupPath != "" {
		errs = append(errs, r.cg.Kill(c.CgroupPath), r.cg.Remove(c.CgroupPath))
	}
	errs = append(errs, r.release(ctx, c), unmountBelow(dir))
	if err := errors.Join(errs...); err != nil {
		return err // the directory stays, so that the next daemon tries again
	}
	return os.RemoveAll(dir)
}

// unmountBelow unmounts everything below dir, children first.
func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("list mounts below %s: %w", dir, err)
	}
	slices.Reverse(mounts) // the table lists parents first
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}
