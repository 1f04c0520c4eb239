// Package jail owns the process in which package backtrace reads what a container chose: it starts it with nothing to lose,
// feeds it, and bounds its time, its memory and its answer. It must not know dumps.
//
// The process is nobody, in network, IPC and process namespaces of its own, with no new privileges, limits of address space
// and processor time, and a seccomp filter that lets it read the descriptors that it was given, write its answer and
// manage its memory and threads: it can open, connect, execute and signal nothing. Files come in as descriptors; memory is
// asked for over a socket, so that it needs no access to a dump, and reads of it only what it needs.
package jail
