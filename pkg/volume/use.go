package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	continuity "github.com/containerd/continuity/fs" // what docker copies a volume's first files with: links, owners, attributes
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mount" // docker's reading of mount options
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Use makes a volume ready for a user, an id of the caller's, and returns where its files are. What has options is mounted
// with the first user. Each Use is ended by a Release, in this process or a later one.
func (s *Store) Use(k triton.VolumeKey, spec *triton.VolumeSpec, user string) (string, error) {
	if err := s.Create(k); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.Path(k, spec)
	if len(spec.Options) > 0 {
		if err := mountAt(path, spec.Options); err != nil {
			return "", fmt.Errorf("error while mounting volume '%s': failed to mount local volume: %w", path, err)
		}
	}
	s.hold(k, user)
	return path, nil
}

// mountAt mounts what the options of a volume ask for, unless it is mounted there.
func mountAt(path string, opts map[string]string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if mounted, err := mountinfo.Mounted(path); err != nil || mounted {
		return err
	}
	options, err := resolveAddr(opts["type"], opts["o"])
	if err != nil {
		return err
	}
	if err := mount.Mount(opts["device"], path, opts["type"], options); err != nil {
		return errors.Join(mountError(err), os.Remove(path))
	}
	return nil
}

// mountError gives the kernel's refusal a kind: what a user asked for cannot be.
func mountError(err error) error {
	return fmt.Errorf("%w%w", err, silent{errdefs.ErrInvalidArgument})
}

// silent gives an error a kind without adding words to it.
type silent struct{ kind error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.kind }

// Hold notes a user whose Use was in an earlier process: its mounts are left alone.
func (s *Store) Hold(k triton.VolumeKey, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold(k, user)
}

// hold is Hold for a caller that holds s.mu.
func (s *Store) hold(k triton.VolumeKey, user string) {
	if s.users[k] == nil {
		s.users[k] = map[string]bool{}
	}
	s.users[k][user] = true
}

// Release ends a Use; one that is ended already is fine. The mount goes with the last user.
func (s *Store) Release(k triton.VolumeKey, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users[k], user)
	if len(s.users[k]) > 0 {
		return nil
	}
	delete(s.users, k)
	return unmountAt(s.mountPoint(k)) // where nothing is if the volume has no options
}

// unmountAt undoes mountAt; a path that is not mounted, or not there, is fine.
func unmountAt(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount volume at %s: %w", path, err)
	}
	// Not recursively: should it still be mounted, what is in there is somebody's data.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove mount point of a volume: %w", err)
	}
	return nil
}

// Populate gives a volume without files those of a directory, with their owners, and the owner and mode of the directory
// itself. A volume that has files stays as it is, and find, which says where the directory is ("": nowhere), is not called.
// path is what Use returned, or a part of it. A whole volume without another user gets its files all at once.
func (s *Store) Populate(k triton.VolumeKey, path string, find func() (string, error)) error {
	s.copying.Lock(k.String())
	defer func() { _ = s.copying.Unlock(k.String()) }() // held, so it cannot fail
	if empty, err := isEmpty(path); err != nil || !empty {
		return err
	}
	from, err := find()
	if err != nil || from == "" {
		return err
	}
	if path != filepath.Join(s.dir(k), dataDir) { // a mount, or a part of a volume
		return copied(k, continuity.CopyDir(path, from))
	}
	tmp := filepath.Join(s.dir(k), copyDir)
	err = os.RemoveAll(tmp)
	if err == nil {
		err = continuity.CopyDir(tmp, from)
	}
	if err == nil {
		err = s.publish(k, path, tmp)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(tmp))
	}
	return copied(k, err)
}

// publish gives a volume its first files. Where somebody has mounted its directory, that must stay.
func (s *Store) publish(k triton.VolumeKey, path, tmp string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users[k]) <= 1 {
		return unix.Rename(tmp, path) // over the empty directory, which os.Rename refuses
	}
	return moveInto(path, tmp)
}

func copied(k triton.VolumeKey, err error) error {
	if err != nil {
		return fmt.Errorf("copy the image's files to volume %s: %w", k, fullDisk(err))
	}
	return nil
}

// moveInto gives a directory that somebody has mounted what another one has, which is removed.
func moveInto(path, tmp string) error {
	var st unix.Stat_t
	if err := unix.Lstat(tmp, &st); err != nil {
		return err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(tmp, e.Name()), filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	// The owner comes first: a change of owner clears setuid and setgid.
	if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return errors.Join(unix.Chmod(path, st.Mode&0o7777), os.Remove(tmp))
}
