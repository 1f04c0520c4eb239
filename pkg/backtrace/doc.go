// Package backtrace owns what the stacks of a crashed process mean: it unwinds its threads, names their frames and makes
// the signature by which crashes are known as one. It does no I/O of its own and must not know where dumps are kept:
// memory and files come in through interfaces.
//
// # Unwinding
//
// Each frame is left by the first of these that knows it: the bytes of a signal's return trampoline, Go's table of stack
// sizes (also in programs without symbols), the call frame information of .eh_frame or .debug_frame, the frame pointer.
// Which one it was is in Frame.By, so that a reader knows how far to trust what follows.
//
// # Hostile input
//
// Whoever runs a container chooses its memory and its files. All counts, sizes and depths are bounded, nothing is
// allocated by a length that was only read, and a module that makes no sense is named in Result.Missing. The parsers of
// DWARF and ELF of the standard library are kept from ending the analysis by a panic. For what is left, such as time, run
// it in package jail.
package backtrace
