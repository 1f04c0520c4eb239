package triton

import (
	"io/fs"
	"time"
)

// PathStat is what is known of a path in a container.
type PathStat struct {
	Name  string // the last part of the path as it was asked for
	Size  int64
	Mode  fs.FileMode
	Mtime time.Time
	// LinkTarget is where a link leads in the end; empty for all else.
	LinkTarget string
}

// UnpackRequest says how files are copied into a container.
type UnpackRequest struct {
	Path string // a directory
	// KeepKinds refuses to replace a directory by something else, or something else by a directory.
	KeepKinds bool
	// AsUser gives the files to the container's user, if it has one; else the archive says whose they are.
	AsUser bool
}

// ChangeKind says what became of a file, in docker's numbers.
type ChangeKind uint8

// The kinds of a FileChange.
const (
	ChangeModify ChangeKind = 0
	ChangeAdd    ChangeKind = 1
	ChangeDelete ChangeKind = 2
)

// FileChange is one difference between a container's files and its image's.
type FileChange struct {
	Kind ChangeKind
	Path string
}
