package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tritond/triton/pkg/triton"
)

// stateFile is the node's own note of what a container did last. The shim's exit record and the kernel are believed
// before it; it exists so that a stopped container still has its exit code after a reboot.
const stateFile = "state.json"

// writeState replaces a container's state file by what its state is now. It is not synced: after a crash of the host the
// process is gone as well. Writers wait for each other, so that the file never goes back.
func (c *container) writeState() error {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	s := c.state
	c.mu.Unlock()
	return writeNote(filepath.Join(c.dataDir, stateFile), s)
}

// saveState is writeState for a change that has happened, file or not.
func (n *Node) saveState(c *container) {
	if err := c.writeState(); err != nil {
		n.log.Error("state not written", "container", c.key, "err", err)
	}
}

// writeNote replaces a file by v in JSON.
func writeNote(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return replaceFile(path, b)
}

// readNote reads what writeNote wrote; a missing file leaves v as it is.
func readNote(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err // it names the file
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// removeNote removes a file; one that is not there is no error.
func removeNote(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replaceFile writes a file that is either the old or the new one, never half of it.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// readState reads dir's state file. A missing file is a container that never started.
func readState(dir string) (triton.State, error) {
	s := triton.State{Status: triton.StatusCreated}
	if err := readNote(filepath.Join(dir, stateFile), &s); err != nil {
		return triton.State{Status: triton.StatusCreated}, err
	}
	return s, nil
}
