package coredump

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/triton"
)

// Bounds of the files that are kept beside dumps.
const (
	maxKept      = 512 // files of a dump
	maxKeptFile  = 512 << 20
	maxKeptFiles = 1 << 30 // bytes of a dump's files
	// keepBound is how long a process is held for its files: a file system may never answer.
	keepBound = 20 * time.Second
	// keptMark is what the kernel appends to the name of a file that has none any more.
	keptMark = " (deleted)"
	// maxIdentities bounds what is remembered of files that are kept already.
	maxIdentities = 4096
)

// KeptFile is a file that the process ran code of, or that has the debug information of one. Its bytes are kept with the tenant's dumps, each once, so that the
// stacks can be read when container and image are gone.
type KeptFile struct {
	Path    string            `json:"path"` // in the container
	Deleted bool              `json:"deleted,omitempty"`
	Ranges  []backtrace.Range `json:"ranges"`
	// DebugOf is the build id of the files that it has the debug information of; it is not mapped then.
	DebugOf string `json:"debugOf,omitempty"`
	Size    int64  `json:"size,omitempty"`
	// Object is the SHA-256 of its bytes in hex, for Store.OpenObject.
	Object string `json:"object,omitempty"`
	// Skipped is why there is no Object.
	Skipped string `json:"skipped,omitempty"`
}

// codeFiles lists the files that have executable mappings, each with all of its ranges.
func (h *Head) codeFiles() []KeptFile {
	byPath := map[string]int{}
	var out []KeptFile
	code := map[string]bool{}
	for _, f := range h.Files {
		r := backtrace.Range{Start: f.Start, End: f.End, Offset: f.Offset, Exec: h.executable(f.Start)}
		i, ok := byPath[f.Path]
		if !ok {
			i = len(out)
			byPath[f.Path] = i
			path, deleted := strings.CutSuffix(f.Path, keptMark)
			out = append(out, KeptFile{Path: strings.ToValidUTF8(path, "�"), Deleted: deleted})
		}
		out[i].Ranges = append(out[i].Ranges, r)
		code[out[i].Path] = code[out[i].Path] || r.Exec
	}
	out = slices.DeleteFunc(out, func(k KeptFile) bool { return !code[k.Path] })
	return out[:min(len(out), maxKept)]
}

// executable reports whether the segment of an address holds code.
func (h *Head) executable(addr uint64) bool {
	i := h.segment(addr)
	return i >= 0 && h.Segments[i].Start <= addr && h.Segments[i].Flags&uint32(elf.PF_X) != 0
}

// identity names the bytes of a file, as long as nobody writes it.
type identity struct {
	tenant     triton.Tenant
	dev, ino   uint64
	size       int64
	mtim, ctim unix.Timespec
}

// objects keeps the bytes of files below DIR/TENANT/objects, by their hash.
type objects struct {
	// mu is held for reading from the keeping of a file until a record names it, and for writing by what removes those
	// that no record names.
	mu sync.RWMutex

	known sync.Map     // identity: hash
	count atomic.Int64 // of known, about

	dropped sync.Map // tenant: true; dumps of it went since its last sweep
	// unknown are tenants with records that could not be read as the store was opened: what they name is not known.
	unknown map[triton.Tenant]bool

	turns sync.Map // tenant: chan struct{}; a tenant whose file system does not answer stops no other's dumps
}

const objectsDir = "objects"

func (s *Store) objectPath(tenant triton.Tenant, hash string) (string, error) {
	if err := tenant.Validate(); err != nil {
		return "", err
	}
	if len(hash) != 2*sha256.Size || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", noSuchDump(hash)
	}
	return filepath.Join(s.dir, string(tenant), objectsDir, hash), nil
}

// OpenObject opens the bytes of a KeptFile of one of the tenant's records.
func (s *Store) OpenObject(tenant triton.Tenant, hash string) (*os.File, error) {
	path, err := s.objectPath(tenant, hash)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// keep saves the files that the held process runs code of, and the separate debug files that its container has for build ids. It
// does not wait for a file system longer than keepBound. m measures it.
func (s *Store) keep(ctx context.Context, tenant triton.Tenant, d *procDir, files []KeptFile, ids []string, minFree uint64, m *meter) []KeptFile {
	ctx, cancel := context.WithTimeout(ctx, keepBound)
	defer cancel()
	v, _ := s.objects.turns.LoadOrStore(tenant, make(chan struct{}, 1))
	turn := v.(chan struct{})
	skip := func(why string) []KeptFile {
		out := slices.Clone(files)
		for i := range out {
			out[i].Skipped = why
		}
		return out
	}
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return skip("files of another dump are still being kept")
	}
	done := make(chan []KeptFile, 1)
	// A read may never end. Who waits goes on without; the tenant's turn is over when it ends.
	dir, err := d.again()
	if err != nil {
		<-turn
		return skip(err.Error())
	}
	go func() {
		defer func() { <-turn }()
		defer dir.close()
		out, left := slices.Clone(files), s.keptRoom()
		m.during(func() {
			for i := range out {
				if err := s.keepFile(ctx, tenant, dir, &out[i], left, minFree); err != nil {
					out[i].Skipped = strings.ToValidUTF8(err.Error(), "�")
				}
				left -= out[i].Size
			}
			out = append(out, s.keepDebug(ctx, tenant, dir, ids, left, minFree)...)
		})
		done <- out
	}()
	select {
	case out := <-done:
		return out
	case <-ctx.Done():
		return skip("reading the files took too long")
	}
}

// keptRoom is what the files of one dump may take: no more than half of what a tenant has.
func (s *Store) keptRoom() int64 { return int64(min(maxKeptFiles, s.bounds.Bytes/2)) }

func (s *Store) keepFile(ctx context.Context, tenant triton.Tenant, d *procDir, k *KeptFile, left int64, minFree uint64) error {
	f, err := d.mapped(k.Ranges)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.keepOpened(ctx, tenant, f, k, left, minFree)
}

// keepDebug saves separate debug files. Those that are not of their build id are not used.
func (s *Store) keepDebug(ctx context.Context, tenant triton.Tenant, d *procDir, ids []string, left int64, minFree uint64) []KeptFile {
	files, err := d.debugFiles(ids)
	if err != nil {
		return []KeptFile{{Path: "/" + debugDir, Skipped: strings.ToValidUTF8(err.Error(), "�")}}
	}
	var out []KeptFile
	for _, f := range files {
		if fileBuildID(f) == f.id {
			k := KeptFile{Path: f.path, DebugOf: f.id}
			if err := s.keepOpened(ctx, tenant, f.File, &k, left, minFree); err != nil {
				k.Skipped = strings.ToValidUTF8(err.Error(), "�")
			}
			left -= k.Size
			out = append(out, k)
		}
		f.Close()
	}
	return out
}

// keepOpened saves a file, if there is room, and says so in k.
func (s *Store) keepOpened(ctx context.Context, tenant triton.Tenant, f *os.File, k *KeptFile, left int64, minFree uint64) (err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat a mapped file: %w", err)
	}
	k.Size = st.Size
	id := identity{tenant, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	if hash, ok := s.objects.known.Load(id); ok {
		if path, err := s.objectPath(tenant, hash.(string)); err == nil {
			if _, err := os.Stat(path); err == nil {
				k.Object = hash.(string)
				return nil
			}
		}
	}
	if st.Size > min(maxKeptFile, left) || s.spare() < minFree+uint64(st.Size) {
		k.Size = 0
		return fmt.Errorf("%d bytes are too many to keep", st.Size)
	}
	if k.Object, err = s.addObject(ctx, tenant, f, st.Size); err != nil {
		return err
	}
	if s.objects.count.Add(1) > maxIdentities {
		s.objects.known.Clear()
		s.objects.count.Store(0)
	}
	s.objects.known.Store(id, k.Object)
	return nil
}

// addObject copies a file's bytes under their hash.
func (s *Store) addObject(ctx context.Context, tenant triton.Tenant, f *os.File, size int64) (hash string, err error) {
	dir := filepath.Join(s.dir, string(tenant), objectsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	tmp, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	defer func() { err = errors.Join(err, ignoreAbsent(os.Remove(tmp.Name()))) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), io.LimitReader(&untilDone{ctx, f}, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	hash = hex.EncodeToString(h.Sum(nil))
	if err := os.Rename(tmp.Name(), filepath.Join(dir, hash)); err != nil {
		return "", fmt.Errorf("keep a file: %w", err)
	}
	return hash, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// untilDone reads until a context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

// again opens the directory once more, for who may outlive d.
func (d *procDir) again() (*procDir, error) {
	dir, err := d.Again()
	if err != nil {
		return nil, err
	}
	return &procDir{dir}, nil
}

// mapped opens the file behind the first of ranges that is mapped.
func (d *procDir) mapped(ranges []backtrace.Range) (*os.File, error) {
	for _, r := range ranges {
		if f, err := d.Mapped(r.Start, r.End); !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
	}
	return nil, errors.New("the file is not mapped any more")
}

// tidy is sweep, if dumps of the tenant went since the last one.
func (s *Store) tidy(tenant triton.Tenant) error {
	if _, ok := s.objects.dropped.Load(tenant); !ok {
		return nil
	}
	return s.sweep(tenant)
}

// sweep removes the objects of a tenant that no record names. One that is being kept puts it off to the next time.
func (s *Store) sweep(tenant triton.Tenant) error {
	if !s.objects.mu.TryLock() {
		return nil
	}
	s.objects.dropped.Delete(tenant)
	defer s.objects.mu.Unlock()
	dir := filepath.Join(s.dir, string(tenant), objectsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreAbsent(err)
	}
	if s.objects.unknown[tenant] {
		return nil
	}
	used := map[string]bool{}
	s.shelf.mu.Lock()
	for _, k := range s.shelf.dumps[tenant] { // all whose records name files: what is being saved has mu
		for object := range k.objects {
			used[object] = true
		}
	}
	s.shelf.mu.Unlock()
	var errs []error
	for _, e := range entries {
		if !used[e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
