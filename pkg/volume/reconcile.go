package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/tritond/triton/pkg/triton"
)

// Reconcile settles what a crash left. wanted says which volumes there should be; the volumes that running containers use
// have been named by Use already. Mounts without a user go, removals that were begun are finished or taken back, empty
// directories that nobody wants go. A directory with files that nobody wants stays, and the log says so.
func (s *Store) Reconcile(ctx context.Context, wanted func(triton.VolumeKey) bool) error {
	errs := []error{s.closeParts(), s.unmountUnused(), s.settleTrash(wanted)}
	err := each(s.cfg.Root, func(k triton.VolumeKey, dir string) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wanted(k) {
			return os.RemoveAll(filepath.Join(dir, copyDir))
		}
		err := removeEmpty(dir)
		if errors.Is(err, errNotEmpty) {
			s.cfg.Log.Warn("files of a volume that has no record are kept: create the volume again to use them, or remove the directory",
				"volume", k, "dir", dir)
			return nil
		}
		return err
	})
	return errors.Join(append(errs, err)...)
}

// settleTrash finishes removals: a volume that is still wanted was not removed.
func (s *Store) settleTrash(wanted func(triton.VolumeKey) bool) error {
	trash := filepath.Join(s.cfg.Root, trashDir)
	entries, err := os.ReadDir(trash)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		aside := filepath.Join(trash, e.Name())
		err := each(aside, func(k triton.VolumeKey, dir string) error {
			if !wanted(k) {
				return nil
			}
			if err := removeEmpty(s.dir(k)); errors.Is(err, errNotEmpty) {
				return nil // made again since: what is in the trash was removed
			} else if err != nil {
				return err
			}
			return os.Rename(dir, s.dir(k))
		})
		if err == nil {
			err = os.RemoveAll(aside)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unmountUnused unmounts the volumes with options that no user has named.
func (s *Store) unmountUnused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return each(s.cfg.Run, func(k triton.VolumeKey, dir string) error {
		if len(s.users[k]) > 0 {
			return nil
		}
		return unmountAt(dir)
	})
}

// each calls f for the directories ROOT/TENANT/NAME.
func each(root string, f func(triton.VolumeKey, string) error) error {
	tenants, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tenants {
		tenant := triton.Tenant(t.Name())
		if tenant.Validate() != nil {
			continue
		}
		names, err := os.ReadDir(filepath.Join(root, t.Name()))
		errs = append(errs, err)
		for _, n := range names {
			if k := (triton.VolumeKey{Tenant: tenant, Name: n.Name()}); checkKey(k) == nil {
				errs = append(errs, f(k, filepath.Join(root, t.Name(), n.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
