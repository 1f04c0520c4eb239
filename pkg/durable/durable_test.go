package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A write that fails half-way leaves what was there, and nothing beside it.
func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	text := func(s string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			_, werr := io.WriteString(w, s)
			return errors.Join(werr, err)
		}
	}
	if err := WriteFile(path, text("old", nil)); err != nil {
		t.Fatal(err)
	}
	half := errors.New("half")
	if err := WriteFile(path, text("ne", half)); !errors.Is(err, half) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("file has %q, %v", b, err)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of the temporary file: %v", err)
	}
	if err := WriteFile(path, text("new", nil)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "new" {
		t.Errorf("file has %q, %v", b, err)
	}
}

func TestOpenTreeRemovesHalfOfAFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := OpenTree(dir); err != nil {
		t.Fatal(err)
	}
	whole, half := filepath.Join(dir, "acme", "a.json"), filepath.Join(dir, "acme", "b.json.tmp")
	if err := os.Mkdir(filepath.Dir(whole), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{whole, half} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := OpenTree(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(left) != 1 || left[0] != whole {
		t.Errorf("left are %q, %v", left, err)
	}
}
