// Package shim owns what lies between a daemon that may die and a container that must not notice: the shim process
// that is a container's parent (its rootfs, stdio, log, exit record), the keeper that holds copies of its descriptors,
// and the client the daemon speaks to both with. It must not know images, networks or Docker, and pulls in neither
// containerd nor etcd, net/http or prometheus: every import is paid for again in each container's shim and init.
//
// # Who is told what, and when
//
// A process's end is known in this order: its pidfd fires; it is reaped; its output is drained to the log, for at most
// drainBound when a descendant keeps the pipe open (the pump goes on after that); exit.json or exec-ID.json is written
// by rename; then waiters are answered. So a written exit record means that the log is complete, and a shim that dies
// before it has written one leaves a pidfd (in the keeper) and the daemon's pinned exit map to learn the status from.
//
// # Where a byte of output is, at each moment
//
// A container's output never exists only in a shim's private memory. It moves, each step by one system call, from the
// container's pipe to an in-flight pipe (splice), from there to a buffer in a memfd (read), and from there to the log
// (write). The keeper holds the container's pipe, the in-flight pipe and the memfd, and one word in the memfd says which
// step is under way: see stream.go. A shim that adopts the container finishes the step and goes on: no line is lost and
// none is written twice, wherever the first shim was killed.
package shim
