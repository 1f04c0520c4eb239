package cluster

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// checkData looks at what lies in dir before etcd does, and reports whether a store was in use there.
func checkData(dir string) (used bool, err error) {
	index, err := checkDatabase(databasePath(dir))
	if err != nil || index == 0 {
		return false, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil {
		return true, err
	}
	if len(logs) == 0 {
		return true, fmt.Errorf("the log beside the database is gone: %w", damaged(dir, "member/wal is empty"))
	}
	return true, nil
}

// checkDatabase reads every page of the database that is in use, in a way that survives damage: etcd maps the file
// and would take the process down by a signal on a truncated one and by a panic on a page of garbage.
// It returns the index of the last log entry that the database holds; 0: none, or no database.
func checkDatabase(path string) (index uint64, err error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if info.Size() == 0 {
		return 0, nil // a first start that was killed: bbolt initialises it
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(path, r)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, damaged(path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		if size := tx.Size(); size > info.Size() {
			return damaged(path, fmt.Sprintf("cut off at %d of %d bytes", info.Size(), size))
		}
		// bucket and key: etcd's storage/schema
		if meta := tx.Bucket([]byte("meta")); meta != nil {
			if v := meta.Get([]byte("consistent_index")); len(v) == 8 {
				index = binary.BigEndian.Uint64(v)
			}
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
	return index, err
}

func damaged(path string, what any) error {
	return fmt.Errorf("%s is damaged (%v): restore it or move it away: %w", path, what, errdefs.ErrDataLoss)
}
