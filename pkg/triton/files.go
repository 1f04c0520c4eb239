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
