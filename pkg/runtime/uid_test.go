package runtime

import (
	"io/fs"
	"syscall"
)

func uidOf(st fs.FileInfo) uint32 { return st.Sys().(*syscall.Stat_t).Uid }
