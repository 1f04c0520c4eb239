package images

import (
	"archive/tar"
	"io"
	"math/rand/v2"
	"os"
)

// WriteBig writes the tar of a root file system with a program, /true, and a file of size bytes that do not compress. Each
// call gives other bytes, so that no two images share a layer.
func WriteBig(path, program string, size int64) error {
	raw, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	if err := addFile(tw, "true", 0o755, raw); err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: "big", Mode: 0o644, Size: size, ModTime: epoch}); err != nil {
		return err
	}
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32())
	}
	if _, err := io.CopyN(tw, rand.NewChaCha8(seed), size); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return f.Close()
}
