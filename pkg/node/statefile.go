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

// writeState replaces dir's state file. It is not synced: after a crash of the host the process is gone as well.
func writeState(dir string, s triton.State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return replaceFile(filepath.Join(dir, stateFile), b)
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
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return triton.State{Status: triton.StatusCreated}, fmt.Errorf("decode %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}
