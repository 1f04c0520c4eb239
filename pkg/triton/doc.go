// Package triton owns the nouns that every other package speaks in: keys, Spec, Status, Event, Usage.
// It holds values only: it does no I/O, starts no goroutines and imports nothing of this module.
package triton
