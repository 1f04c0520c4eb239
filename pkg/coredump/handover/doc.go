// Package handover owns the way of a core dump from a program that the kernel starts to who listens on a socket. The program
// starts once per crash, so this package must not import what takes time to initialise.
package handover
