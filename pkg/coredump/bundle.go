package coredump

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// openScript starts a debugger on what lies beside it.
//
//go:embed open.sh
var openScript []byte

// Bundle is a tar archive that is put together while it is read: a core, the files that the process ran code of as they
// were mapped, and a script that opens all that in a debugger.
type Bundle struct {
	*io.SectionReader
	// Tag names the bytes: it changes when they do.
	Tag     string
	parts   []part
	closers []io.Closer
}

// part is some bytes of the archive.
type part struct {
	at, size int64
	from     io.ReaderAt
}

// tarBlock is the unit of tar archives.
const tarBlock = 512

// OpenBundle opens the bundle of a dump: errdefs.ErrNotFound where there is no core.
func (s *Store) OpenBundle(r *Record) (_ *Bundle, err error) {
	b := &Bundle{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if err := b.core(s, r); err != nil {
		return nil, err
	}
	record, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode dump record: %w", err)
	}
	sum := sha256.Sum256(record)
	b.Tag = r.ID + "-bundle-" + hex.EncodeToString(sum[:8])
	names := sysrootNames(r)
	exe := names[strings.TrimSuffix(r.Exe, deletedMark)]
	var dirs []string
	for _, k := range r.Kept {
		if name := names[k.Path]; name != "" && k.DebugOf == "" {
			dirs = append(dirs, path.Dir(name))
		}
	}
	slices.Sort(dirs)
	small := []struct {
		name, text string
		mode       int64
	}{
		{"record.json", string(record), 0o600}, {"open.sh", string(openScript), 0o700},
		// One a line: names with line ends are in no bundle.
		{"exe", exe + "\n", 0o600}, {"libraries", strings.Join(slices.Compact(dirs), "\n") + "\n", 0o600},
	}
	for _, f := range small {
		if err := b.add(r, tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text))}, strings.NewReader(f.text)); err != nil {
			return nil, err
		}
	}
	if err := b.files(s, r, names); err != nil {
		return nil, err
	}
	b.append(bytes.NewReader(make([]byte, 2*tarBlock)), 2*tarBlock)
	b.SectionReader = io.NewSectionReader(b, 0, b.size())
	return b, nil
}

// core adds the core with all that was saved.
func (b *Bundle) core(s *Store, r *Record) error {
	full, err := s.OpenCore(r)
	if err == nil {
		b.closers = append(b.closers, full)
		return b.add(r, tar.Header{Name: "core", Mode: 0o600, Size: full.Size()}, full)
	}
	if !errdefs.IsNotFound(err) {
		return err
	}
	mini, err := s.OpenMini(r)
	if err != nil {
		return err
	}
	b.closers = append(b.closers, mini)
	st, err := mini.Stat()
	if err != nil {
		return err
	}
	return b.add(r, tar.Header{Name: "core", Mode: 0o600, Size: st.Size()}, mini)
}

// files adds what is kept of the process's files below sysroot, each by the name that the process had it by, and by the
// name that the linker looks for it.
func (b *Bundle) files(s *Store, r *Record, names map[string]string) error {
	taken := map[string]bool{}
	for _, k := range r.Kept {
		name := names[k.Path]
		if k.Object == "" || name == "" || taken[name] {
			continue
		}
		taken[name] = true
		f, err := s.OpenObject(r.Container.Tenant, k.Object)
		if err != nil {
			return fmt.Errorf("file of dump %s: %w", r.ID, err)
		}
		b.closers = append(b.closers, f)
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if err := b.add(r, tar.Header{Name: name, Mode: 0o700, Size: st.Size()}, f); err != nil {
			return err
		}
	}
	for _, m := range r.Modules {
		name := names[strings.TrimSuffix(m.Path, deletedMark)]
		if m.Soname == "" || name == "" || path.Base(name) == m.Soname {
			continue
		}
		link := path.Join(path.Dir(name), m.Soname)
		if taken[link] || !taken[name] {
			continue
		}
		taken[link] = true
		if err := b.add(r, tar.Header{Name: link, Typeflag: tar.TypeSymlink, Linkname: path.Base(name), Mode: 0o777}, nil); err != nil {
			return err
		}
	}
	return nil
}

// sysrootNames gives the name in the bundle of each kept file. What a container can call a file is hostile: a name that
// would lead out of sysroot, or that a list of lines cannot have, is in no bundle.
func sysrootNames(r *Record) map[string]string {
	names := map[string]string{}
	for _, k := range r.Kept {
		clean := path.Clean("/" + k.Path)
		if k.Object == "" || clean == "/" || len(clean) > 4000 || strings.ContainsFunc(clean, func(c rune) bool { return c < ' ' || c == 0x7f || c == ':' }) {
			continue
		}
		names[k.Path] = "sysroot" + clean
	}
	return names
}

// add appends a member below the folder that is named after the dump.
func (b *Bundle) add(r *Record, h tar.Header, from io.ReaderAt) error {
	var raw bytes.Buffer
	h.Name, h.ModTime, h.Format = r.ID+"/"+h.Name, r.At.Truncate(time.Second), tar.FormatPAX
	if err := tar.NewWriter(&raw).WriteHeader(&h); err != nil {
		return fmt.Errorf("bundle of dump %s: %w", r.ID, err)
	}
	b.append(bytes.NewReader(raw.Bytes()), int64(raw.Len()))
	if h.Size > 0 {
		b.append(from, h.Size)
		if rest := h.Size % tarBlock; rest != 0 {
			b.append(bytes.NewReader(make([]byte, tarBlock-rest)), tarBlock-rest)
		}
	}
	return nil
}

func (b *Bundle) append(from io.ReaderAt, size int64) {
	b.parts = append(b.parts, part{b.size(), size, from})
}

func (b *Bundle) size() int64 {
	if len(b.parts) == 0 {
		return 0
	}
	last := b.parts[len(b.parts)-1]
	return last.at + last.size
}

// ReadAt is for one goroutine at a time.
func (b *Bundle) ReadAt(p []byte, off int64) (done int, err error) {
	i := sort.Search(len(b.parts), func(i int) bool { return b.parts[i].at+b.parts[i].size > off })
	for ; i < len(b.parts) && done < len(p); i++ {
		k := b.parts[i]
		from := off + int64(done) - k.at
		n, err := k.from.ReadAt(p[done:done+int(min(int64(len(p)-done), k.size-from))], from)
		done += n
		if from+int64(n) < k.size && done < len(p) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Close closes what the bundle is made of.
func (b *Bundle) Close() error {
	var errs []error
	for _, c := range b.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

var _ io.ReadSeekCloser = (*Bundle)(nil)
