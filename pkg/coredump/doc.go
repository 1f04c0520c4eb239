// Package coredump owns what is kept of a process that crashed: it takes the core from the kernel, writes it in the order
// of what explains most, and keeps a bounded store of dumps. It must not know containers: who calls it says whose a
// cgroup is.
//
// The kernel offers a dump on a socket (coredump.rst, "coredump socket" with request and ack, Linux 6.17) and holds the
// process until the socket is closed; an older one gives it to a program on a pipe, which hands the pipe over. Only the
// header and the notes are read from the stream; the memory is read from the held process, stacks first, so that whatever
// ends the dump early leaves a core that is valid and has every stack.
package coredump
