package image_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
)

func TestKernelOpenAgainFindsTheImages(t *testing.T) {
	root := t.TempDir()
	im := small("a", "a:1")
	for range 3 {
		s, err := image.Open(t.Context(), image.Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		load(t, s, imagetest.Docker(im))
		if err := s.Collect(t.Context()); err != nil {
			t.Error(err)
		}
		if got, err := s.Inspect(t.Context(), tenant, "a:1"); err != nil || got.ID != im.ID() {
			t.Errorf("got %s, %v", got.ID, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelTwoStoresInOneProcess(t *testing.T) {
	one, two := open(t, image.Config{}), open(t, image.Config{})
	load(t, one, imagetest.Docker(small("a", "a:1")))
	if _, err := two.Inspect(t.Context(), tenant, "a:1"); !errdefs.IsNotFound(err) {
		t.Errorf("the other store: got %v, want not found", err)
	}
}

func TestKernelOpenOfAStoreInUseIsAClearError(t *testing.T) {
	root := t.TempDir()
	open(t, image.Config{Root: root})
	_, err := image.Open(t.Context(), image.Config{Root: root})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestKernelOpenRefusesARelativeRoot(t *testing.T) {
	if _, err := image.Open(t.Context(), image.Config{Root: "relative"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v, want invalid argument", err)
	}
}

func TestKernelADamagedDatabaseIsAClearError(t *testing.T) {
	// Enough records that there are pages to damage.
	made := t.TempDir()
	s, err := image.Open(t.Context(), image.Config{Root: made})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, imagetest.Docker(small("a", "a:1", "b:1", "c:1", "d:1"), small("b", "e:1")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"meta.db", "snapshots/metadata.db"} {
		healthy, err := os.ReadFile(filepath.Join(made, file))
		if err != nil {
			t.Fatal(err)
		}
		for how, damage := range map[string]func([]byte) []byte{
			"garbage":       func(b []byte) []byte { return bytes.Repeat([]byte("garbage "), len(b)/8) },
			"empty pages":   func(b []byte) []byte { clear(b[8192:]); return b },
			"cut short":     func(b []byte) []byte { return b[:4096*2] },
			"cut to a byte": func(b []byte) []byte { return b[:1] },
			"noise": func(b []byte) []byte {
				for i := 8192; i < len(b); i += 97 {
					b[i] ^= 0xff
				}
				return b
			},
		} {
			t.Run(file+" "+how, func(t *testing.T) {
				root := t.TempDir()
				if err := os.CopyFS(root, os.DirFS(made)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, file), damage(bytes.Clone(healthy)), 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := image.Open(t.Context(), image.Config{Root: root})
				if err == nil {
					s.Close()
				}
				if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), filepath.Join(root, file)) {
					t.Errorf("got %v, want data loss that names the file", err)
				}
			})
		}
	}
}

func TestKernelALostContentFileIsAClearError(t *testing.T) {
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	im := small("a", "a:1")
	load(t, s, imagetest.Docker(im))
	if err := s.Collect(t.Context()); err != nil { // forgets what was read before
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "content/blobs/sha256", im.ID()[7:])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inspect(t.Context(), tenant, "a:1"); err == nil || !strings.Contains(err.Error(), im.ID()) {
		t.Errorf("got %v, want an error that names the image", err)
	}
	// Loading it again repairs it.
	load(t, s, imagetest.Docker(im))
	if _, err := s.Inspect(t.Context(), tenant, "a:1"); err != nil {
		t.Errorf("after loading again: %v", err)
	}
}

// childRoot tells the test binary to be the process that is killed in the middle of a load.
const childRoot = "TRITON_IMAGE_TEST_ROOT"

func TestKernelKillInTheMiddleOfALoadLeavesNothing(t *testing.T) {
	if root := os.Getenv(childRoot); root != "" {
		loadUntilKilled(root)
	}
	im := small("a", "a:1")
	im.Layers = append(im.Layers, imagetest.Layer{Tar: imagetest.Files(map[string]string{"b": strings.Repeat("b", 8<<20)})})
	archive := imagetest.Docker(im)
	// Killed in a layer's bytes, and with everything but the end of the archive stored.
	for _, cut := range []int{len(archive) / 2, len(archive) - 2048} {
		root := t.TempDir()
		before := func() []string { s := open(t, image.Config{Root: root}); defer s.Close(); return leftovers(t, s, root) }()

		child := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		child.Env = append(os.Environ(), childRoot+"="+root)
		stdin, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdin.Write(archive[:cut]); err != nil {
			t.Errorf("feed the child: %v", err)
		}
		waitForBytes(t, filepath.Join(root, "content"), int64(cut)-1<<20)
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		child.Wait()

		s := open(t, image.Config{Root: root})
		if list, err := s.List(t.Context(), tenant); err != nil || len(list) != 0 {
			t.Errorf("list: got %v, %v, want nothing", list, err)
		}
		if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
			t.Errorf("left behind (-before +after):\n%s", diff)
		}
		load(t, s, archive)
	}
}

// loadUntilKilled loads its standard input, whose end never comes.
func loadUntilKilled(root string) {
	s, err := image.Open(context.Background(), image.Config{Root: root})
	if err != nil {
		panic(err)
	}
	_, err = s.Load(context.Background(), tenant, os.Stdin, nil)
	panic(err)
}

// waitForBytes waits until the files below dir have n bytes.
func waitForBytes(t *testing.T, dir string, n int64) {
	t.Helper()
	var have int64
	for deadline := time.Now().Add(30 * time.Second); have < n; time.Sleep(time.Millisecond) {
		have = 0
		_ = filepath.Walk(dir, func(_ string, fi os.FileInfo, err error) error { // files come and go meanwhile
			if err == nil && fi.Mode().IsRegular() {
				have += fi.Size()
			}
			return nil
		})
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes in %s, want %d", have, dir, n)
		}
	}
}

func TestKernelALoadThatIsGivenUpLeavesNothing(t *testing.T) {
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	before := leftovers(t, s, root)
	archive := imagetest.Docker(small("a", "a:1"))
	ctx, cancel := context.WithCancel(t.Context())
	in := io.MultiReader(bytes.NewReader(archive[:2000]), readerFunc(func(p []byte) (int, error) { cancel(); return 1, nil }))
	if _, err := s.Load(ctx, tenant, in, nil); err == nil {
		t.Error("a cancelled load succeeded")
	}
	if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A power loss may take the end of bolt's last transaction, never the one before: a torn page is not used.
func TestKernelATornLastTransactionIsNotSeen(t *testing.T) {
	root := t.TempDir()
	s, err := image.Open(t.Context(), image.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, imagetest.Docker(small("a", "a:1")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "meta.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var txid int
	if err := db.View(func(tx *bolt.Tx) error { txid = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	meta := b[4096*(txid%2):][:4096] // bolt writes its two meta pages in turn
	for i := 16; i < 80; i++ {
		meta[i] ^= 0x5a
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, image.Config{Root: root})
	if _, err := s.List(t.Context(), tenant); err != nil {
		t.Errorf("list: %v", err)
	}
}
