package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/locker"

	"github.com/tritond/triton/pkg/triton"
)

// Names below the root of a store, and below the directory of a volume.
const (
	trashDir = ".trash"
	dataDir  = "_data" // as docker has it
	copyDir  = ".copy"
	partsDir = ".parts" // below Run
)

// Config says where a Store is.
type Config struct {
	Root string // for the files, kept
	Run  string // for mounts, below the run root
	Log  *slog.Logger
}

// Store is the volumes of one machine, of all tenants.
type Store struct {
	cfg     Config
	copying locker.Locker // by volume; held while a volume gets its first files

	mu    sync.Mutex
	users map[triton.VolumeKey]map[string]bool // guarded by mu
}

// Open makes the directories of a store. Call Reconcile before anything else.
func Open(cfg Config) (*Store, error) {
	// Nobody but root passes: a volume may hold programs that are setuid root, which are a container's own affair.
	for _, dir := range []string{cfg.Root, filepath.Join(cfg.Root, trashDir), cfg.Run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory of volumes: %w", err)
		}
	}
	return &Store{cfg: cfg, users: map[triton.VolumeKey]map[string]bool{}}, nil
}

// dir is the directory of a volume; its files are one level below.
func (s *Store) dir(k triton.VolumeKey) string {
	return filepath.Join(s.cfg.Root, string(k.Tenant), k.Name)
}

// Path is where the files of a volume are on this machine, for one with options while it is in use.
func (s *Store) Path(k triton.VolumeKey, spec *triton.VolumeSpec) string {
	if len(spec.Options) > 0 {
		return s.mountPoint(k)
	}
	return filepath.Join(s.dir(k), dataDir)
}

func (s *Store) mountPoint(k triton.VolumeKey) string {
	return filepath.Join(s.cfg.Run, string(k.Tenant), k.Name)
}

// Create makes the directory of a volume, or finds it.
func (s *Store) Create(k triton.VolumeKey) error {
	if err := checkKey(k); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir(k), 0o700); err != nil {
		return fmt.Errorf("make volume %s: %w", k, fullDisk(err))
	}
	err := os.Mkdir(filepath.Join(s.dir(k), dataDir), 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make volume %s: %w", k, fullDisk(err))
	}
	return nil
}

// fullDisk gives an error the kind that a caller tells users by.
func fullDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", errdefs.ErrResourceExhausted, err)
	}
	return err
}

// checkKey refuses keys that must not become part of a path.
func checkKey(k triton.VolumeKey) error {
	if err := k.Tenant.Validate(); err != nil {
		return err
	}
	return CheckName(k.Name)
}

// Undo takes back a Create whose volume nobody wanted in the end. It removes empty directories only.
func (s *Store) Undo(k triton.VolumeKey) error { return removeEmpty(s.dir(k)) }

// removeEmpty removes the directory of a volume without files; errNotEmpty where there are some.
func removeEmpty(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, copyDir)); err != nil {
		return err
	}
	for _, d := range []string{filepath.Join(dir, dataDir), dir} {
		err := os.Remove(d)
		if errors.Is(err, syscall.ENOTEMPTY) {
			return errNotEmpty
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

var errNotEmpty = errors.New("it has files")

// Trash is a volume that was taken away and can still be put back.
type Trash struct{ store, aside string }

// Remove takes a volume away. The caller then forgets that it is wanted and calls Empty, or calls Restore. A volume without
// a directory gives an empty Trash.
func (s *Store) Remove(k triton.VolumeKey) (Trash, error) {
	if err := checkKey(k); err != nil {
		return Trash{}, err
	}
	aside := filepath.Join(s.cfg.Root, trashDir, triton.NewID())
	if err := os.MkdirAll(filepath.Join(aside, string(k.Tenant)), 0o700); err != nil {
		return Trash{}, fmt.Errorf("remove volume %s: %w", k, fullDisk(err))
	}
	err := os.Rename(s.dir(k), filepath.Join(aside, string(k.Tenant), k.Name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Trash{}, errors.Join(fmt.Errorf("remove volume %s: %w", k, err), os.RemoveAll(aside))
	}
	return Trash{s.dir(k), filepath.Join(aside, string(k.Tenant), k.Name)}, nil
}

// Restore puts the volume back.
func (t Trash) Restore() error {
	err := os.Rename(t.aside, t.store)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, t.Empty())
}

// Empty removes the files for good.
func (t Trash) Empty() error { return os.RemoveAll(filepath.Dir(filepath.Dir(t.aside))) }

// Size is the bytes of a volume's files, a file with several names counted once. What has options counts nothing: its
// bytes are elsewhere.
func (s *Store) Size(ctx context.Context, k triton.VolumeKey) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var total int64
	err := filepath.WalkDir(filepath.Join(s.dir(k), dataDir), func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // went meanwhile
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if at := (inode{uint64(st.Dev), st.Ino}); st.Nlink == 1 || !seen[at] { //nolint:unconvert // Dev differs by architecture
			seen[at] = st.Nlink > 1
			total += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", k, err)
	}
	return total, nil
}

// isEmpty reports whether path is a directory without entries.
func isEmpty(path string) (bool, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
