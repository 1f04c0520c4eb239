package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// compression is how a stream is packed.
type compression int

const (
	plain compression = iota
	gzipped
	zstandard
	bzipped
	xzipped
)

// peekSize is enough for every magic number below.
const peekSize = 6

// zstdWindow bounds the memory a zstd stream may ask for: 128 MiB is the most that zstd itself unpacks unless told otherwise.
const zstdWindow = 128 << 20

// xzDictionary bounds the memory an xz stream may ask for: xz -9 uses 64 MiB.
const xzDictionary = 64 << 20

// sniff tells the compression of a stream by its first bytes.
func sniff(head []byte) compression {
	for _, m := range []struct {
		magic string
		kind  compression
	}{
		{"\x1f\x8b\x08", gzipped},
		{"\x28\xb5\x2f\xfd", zstandard},
		{"\x50\x2a\x4d\x18", zstandard}, // a skippable frame, as pzstd begins with
		{"BZh", bzipped},
		{"\xfd7zXZ\x00", xzipped},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.kind
		}
	}
	return plain
}

// Decompress unpacks r by what its first bytes say. The caller closes the result, which does not close r.
//
// It does not use containerd's compression package, because that pipes gzip through a program found in PATH.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(peekSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch sniff(head) {
	case gzipped:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return z, nil
	case zstandard:
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("read zstd header: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return z.IOReadCloser(), nil
	case bzipped:
		return io.NopCloser(bzip2.NewReader(br)), nil
	case xzipped:
		z, err := xz.NewReader(br, xzDictionary)
		if err != nil {
			return nil, fmt.Errorf("read xz header: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return io.NopCloser(z), nil
	default:
		return io.NopCloser(br), nil
	}
}
