// Package profile owns what stacks of a container become: processes whose mappings are read while they live, names from the
// container's own files and from the kernel, and the pprof form. It must not know how stacks are taken, and reads no foreign
// file itself: names come from a function, which runs elsewhere.
//
// # What a profile holds
//
// A location is a place in a file, so that processes of the same program share it; places in the kernel have no address,
// since tenants must not learn where it lies. A function in brackets stands for what has no name: [FILE] for a file without
// symbols, [jit] for code that was made while it ran, [gone] for a process that ended before its mappings were read,
// [no stack] for one that could not be kept.
package profile
