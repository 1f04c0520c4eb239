package coredump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/s2"
)

// bodyOf writes a body file of chunks.
func bodyOf(t *testing.T, write func(*bodyWriter) error) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "body"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w := &bodyWriter{h: sample(t), to: f}
	if err := errors.Join(write(w), w.flush()); err != nil {
		t.Fatal(err)
	}
	return f
}

// packedS2 is data as it is handed to a bodyWriter.
func packedS2(b []byte) []byte { return append(make([]byte, chunkHeader), s2.Encode(nil, b)...) }

// someText is memory that compresses well, and better by what looks further.
func someText(seed int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < window; i++ {
		fmt.Fprintf(&b, "%d: request %d of user %d took %d ms\n", seed, i*7919%10007, i%97, i*i%8191)
	}
	return b.Bytes()[:window]
}

// TestRepackedBodyIsTheSameCore: it takes less, and what is read of it is the same byte for byte.
func TestRepackedBodyIsTheSameCore(t *testing.T) {
	h := sample(t)
	const base = 0x10000000
	old := bodyOf(t, func(w *bodyWriter) error {
		return errors.Join(
			w.add(Run{base, base + window}, packedS2(someText(1)), codecS2),
			w.add(Run{base + window, base + 2*window}, nil, codecZero),
			w.add(Run{base + 2*window, base + 3*window}, packedS2(someText(2)), codecS2),
		)
	})
	st, err := old.Stat()
	if err != nil {
		t.Fatal(err)
	}
	core, err := openCore(h, old)
	if err != nil {
		t.Fatal(err)
	}
	if len(core.chunks) != 3 {
		t.Fatalf("%d chunks", len(core.chunks))
	}
	path := filepath.Join(t.TempDir(), "new")
	again, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	size, err := core.repack(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := again.Seek(0, io.SeekCurrent); err != nil || uint64(n) != size || n >= st.Size() {
		t.Errorf("%d bytes (told %d, %v), before %d", n, size, err, st.Size())
	}
	want, got := coreBytes(t, h, old), coreBytes(t, h, again)
	if !bytes.Equal(want, got) || !bytes.Contains(got, someText(2)) {
		t.Errorf("%d bytes of the core differ from %d before", len(got), len(want))
	}
}

func coreBytes(t *testing.T, h *Head, body *os.File) []byte {
	t.Helper()
	f, err := os.Open(body.Name())
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCore(h, f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedZstdChunkIsAnError(t *testing.T) {
	h := sample(t)
	const base = 0x10000000
	body := bodyOf(t, func(w *bodyWriter) error {
		return w.add(Run{base, base + window}, append(make([]byte, chunkHeader), "no zstd"...), codecZstd)
	})
	c, err := openCore(h, body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("read without an error")
	}
}

// TestEndedRepackKeepsTheOldBody: a daemon that stops meanwhile has lost nothing.
func TestEndedRepackKeepsTheOldBody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := openCore(sample(t), bodyOf(t, func(w *bodyWriter) error { return w.add(Run{0x10000000, 0x10000000 + window}, nil, codecZero) }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.repack(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
