// Package bpftest owns BPF programs that exist for tests alone: the functions of package bpf made callable, and an
// empty pair of hooks. Product code must not import it.
package bpftest
