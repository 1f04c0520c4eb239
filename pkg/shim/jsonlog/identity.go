package jsonlog

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// identity tells the files of a log apart, also those that are gone: a file system gives the inode number of a removed file to the
// next one at once, but each its own generation. 0 is one that is not known, which may be any.
type identity struct {
	ino, generation uint64
}

func (a identity) is(b identity) bool {
	return a.ino == b.ino && (a.generation == b.generation || a.generation == 0 || b.generation == 0)
}

func identityOf(f *os.File, ino uint64) identity { return identity{ino, generationOf(f)} }

func placeOf(p triton.LogPlace) identity { return identity{p.Ino, p.Generation} }

// atHandleFID asks for a handle that need not lead back to the file, which more file systems have (include/uapi/linux/fcntl.h,
// since Linux 6.5).
const atHandleFID = 0x200

// generationOf is a hash of the file's handle (name_to_handle_at(2)), which has the number and the generation of its inode; 0: the
// file system gives none.
func generationOf(f *os.File) uint64 {
	for _, flags := range []int{unix.AT_EMPTY_PATH, unix.AT_EMPTY_PATH | atHandleFID} {
		h, _, err := unix.NameToHandleAt(int(f.Fd()), "", flags)
		if errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return 0
		}
		sum := fnv.New64a()
		sum.Write(binary.LittleEndian.AppendUint32(nil, uint32(h.Type())))
		sum.Write(h.Bytes())
		return sum.Sum64()
	}
	return 0
}

// packed is the identity in the header of a compressed file: two numbers of 64 bits, little-endian. Files of older versions have
// the first only.
func (a identity) packed() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, a.ino), a.generation)
}

func unpackIdentity(b []byte) (a identity) {
	if len(b) != 8 && len(b) != 16 {
		return identity{}
	}
	a.ino = binary.LittleEndian.Uint64(b)
	if len(b) == 16 {
		a.generation = binary.LittleEndian.Uint64(b[8:])
	}
	return a
}
