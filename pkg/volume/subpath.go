package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// OpenSubpath opens a part of a volume: no link and no .. leads out of the volume, though a container change
// it meanwhile. The file's name, "/proc/PID/fd/N", is a path to it while it is open.
func OpenSubpath(volume, subpath string) (*os.File, error) {
	top, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: volume, Err: err}
	}
	defer unix.Close(top)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(top, subpath, &how)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR): // something was renamed meanwhile
			continue
		case errors.Is(err, unix.EXDEV):
			return nil, invalid("subpath %q of the volume leads out of it", subpath)
		case err != nil:
			return nil, invalid("cannot access path %q of the volume: %v", subpath, err)
		}
		return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)), nil
	}
}

// Part is a part of a volume that is mounted at a path of its own until Close: a container is made from paths.
type Part struct{ Path string }

// Expose mounts a part of a volume for a user of it. Open parts of one user have different numbers.
func (s *Store) Expose(volume, subpath, user string, number int) (Part, error) {
	from, err := OpenSubpath(volume, subpath)
	if err != nil {
		return Part{}, err
	}
	defer from.Close()
	info, err := os.Stat(from.Name())
	if err != nil {
		return Part{}, err
	}
	dir := filepath.Join(s.cfg.Run, partsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Part{}, err
	}
	p := Part{filepath.Join(dir, user+"-"+strconv.Itoa(number))}
	if info.IsDir() {
		err = os.Mkdir(p.Path, 0o700)
	} else {
		err = os.WriteFile(p.Path, nil, 0o600)
	}
	if err == nil {
		err = unix.Mount(from.Name(), p.Path, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return Part{}, errors.Join(fmt.Errorf("mount subpath %q of the volume: %w", subpath, err), p.Close())
	}
	return p, nil
}

// Close unmounts the part where it was exposed. Whoever mounted it from there keeps it.
func (p Part) Close() error { return unmountAt(p.Path) }

// closeParts unmounts the parts that an earlier process exposed.
func (s *Store) closeParts() error {
	entries, err := os.ReadDir(filepath.Join(s.cfg.Run, partsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, unmountAt(filepath.Join(s.cfg.Run, partsDir, e.Name())))
	}
	return errors.Join(errs...)
}
