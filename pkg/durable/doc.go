// Package durable owns how a file comes to be complete and on the disk, or not to be there. It must not know what is in it.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces path by what write writes, readable by its owner only. After an error, or a kill at any moment, path is
// what it was; a kill may leave path.tmp, which the next call replaces. One caller at a time per path.
func WriteFile(path string, write func(io.Writer) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), Remove(tmp))
	}
	return nil
}

// OpenTree makes dir if need be, whose files WriteFile wrote into folders of it, and removes what a kill left of them.
func OpenTree(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	half, err := filepath.Glob(filepath.Join(dir, "*", "*.tmp"))
	for _, path := range half {
		err = errors.Join(err, Remove(path))
	}
	return err
}

// Remove deletes a file; one that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir makes renames in a folder outlive a loss of power, which a WriteFile by itself need not.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
