// Package bpf owns all BPF C of Triton, its compiled objects and their Go bindings. It knows no Go types of other
// packages and attaches nothing: loading, attaching and reading is the work of package probes.
package bpf
