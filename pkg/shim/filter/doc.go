// Package filter owns the compiled form of a seccomp configuration: the program that libcontainer's init would give to the
// kernel, as bytes, so that it is compiled once for a container and not at each exec. It must not load anything.
package filter

import "golang.org/x/sys/unix"

// Program is a filter for seccomp(2), SECCOMP_SET_MODE_FILTER. One without instructions is none.
type Program struct {
	Flags        uint32 // SECCOMP_FILTER_FLAG_*
	Instructions []unix.SockFilter
}
