package coredump

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// debugDir is where distributions put what they strip from programs and libraries, by build id.
	debugDir = "usr/lib/debug/.build-id"
	// maxDebugFiles bounds those of a dump.
	maxDebugFiles = 128
	// maxSections bounds the section headers that are looked through for a build id.
	maxSections = 1024
)

// debugFile is an open file that a process's container has for a build id. What it holds is not known yet.
type debugFile struct {
	*os.File
	id, path string
}

// debugFiles opens the separate debug files that the process's container has of files with these build ids. Names are looked up
// in the root of the process, with its rights, so that no link leads to what it may not read; nor do they lead into another mount,
// where a look-up may never end, and what is no regular file is not opened.
func (d *procDir) debugFiles(ids []string) ([]debugFile, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	fsuid, fsgid, err := d.fsIDs()
	if err != nil {
		return nil, err
	}
	var out []debugFile
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, whose rights are others now, ends with the goroutine
		done <- func() error {
			root, err := unix.Openat(d.FD(), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("root of a process: %w", err)
			}
			defer unix.Close(root)
			if err := becomeForFiles(fsuid, fsgid); err != nil {
				return err
			}
			out = findDebugFiles(root, ids)
			return nil
		}()
	}()
	err = <-done
	return out, err
}

// findDebugFiles opens what the calling thread may read of them.
func findDebugFiles(root int, ids []string) (out []debugFile) {
	dir, err := openWithin(root, debugDir)
	if err != nil { // most have none
		return nil
	}
	defer unix.Close(dir)
	for _, id := range ids {
		name := path.Join(debugDir, id[:2], id[2:]+".debug")
		if f := openRegular(root, name); f != nil {
			out = append(out, debugFile{f, id, "/" + name})
		}
		if len(out) == maxDebugFiles {
			break
		}
	}
	return out
}

// fsIDs are the ids by which the kernel judges what files the process may open, in the daemon's namespace.
func (d *procDir) fsIDs() (uid, gid int, err error) {
	status, err := d.Read("status")
	if err != nil {
		return 0, 0, err
	}
	find := func(key string) (id int, err error) {
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, key); ok {
				var other int
				_, err := fmt.Sscan(rest, &other, &other, &other, &id) // real, effective, saved, of the file system
				return id, err
			}
		}
		return 0, errors.New("not there")
	}
	if uid, err = find("Uid:"); err == nil {
		gid, err = find("Gid:")
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ids in the status of a process: %w", err)
	}
	return uid, gid, nil
}

// becomeForFiles gives the calling thread another's rights to files: with an id that is not root's go the capabilities for
// them (capabilities(7)).
func becomeForFiles(uid, gid int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 { // of this thread alone
		return fmt.Errorf("give up groups: %w", errno)
	}
	for _, set := range []struct {
		to   func(int) (int, error)
		id   int
		what string
	}{{unix.SetfsgidRetGid, gid, "group"}, {unix.SetfsuidRetUid, uid, "user"}} {
		_, err := set.to(set.id)
		if err == nil {
			var is int
			if is, err = set.to(-1); err == nil && is != set.id { // it reports no failure but by that
				err = unix.EPERM
			}
		}
		if err != nil {
			return fmt.Errorf("become %s %d for files: %w", set.what, set.id, err)
		}
	}
	return nil
}

// openWithin opens a name below root without a right to its contents.
func openWithin(root int, name string) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// openRegular opens a regular file below root; nil: there is none, or none that the calling thread may read.
func openRegular(root int, name string) *os.File {
	at, err := openWithin(root, name)
	if err != nil {
		return nil
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if unix.Fstat(at, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}

// debugIDs are the build ids of modules for which there may be a separate file.
func debugIDs(all []Module) []string {
	var ids []string
	for _, m := range all {
		if len(m.BuildID) > 2 && !slices.Contains(ids, m.BuildID) {
			ids = append(ids, m.BuildID)
		}
	}
	return ids
}

// fileBuildID is the build id in the sections of an ELF file; "": it has none. Segments tell nothing of a file that has no more than
// the debug information of another.
func fileBuildID(f io.ReaderAt) string {
	le := binary.LittleEndian
	head := make([]byte, ehdrSize)
	if n, _ := f.ReadAt(head, 0); n < len(head) || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return ""
	}
	const shdrSize = 64
	at, n := le.Uint64(head[40:]), min(int(le.Uint16(head[60:])), maxSections)
	if le.Uint16(head[58:]) != shdrSize || at > 1<<62 {
		return ""
	}
	sections := make([]byte, n*shdrSize)
	got, _ := f.ReadAt(sections, int64(at))
	for sections = sections[:got]; len(sections) >= shdrSize; sections = sections[shdrSize:] {
		off, size := le.Uint64(sections[24:]), le.Uint64(sections[32:])
		if elf.SectionType(le.Uint32(sections[4:])) != elf.SHT_NOTE || size > maxNotes || off > 1<<62 {
			continue
		}
		notes := make([]byte, size)
		got, _ := f.ReadAt(notes, int64(off))
		const gnuBuildID = 3
		if id := findNote(notes[:got], "GNU\x00", gnuBuildID); id != nil && len(id) <= maxBuildID {
			return hex.EncodeToString(id)
		}
	}
	return ""
}
