// Package node owns this machine: the order of steps of a container's life, what is told to whom when one ends, and
// the reconciliation of what should be with what is. It must not know HTTP or Docker's JSON, and it must not pick
// machines.
//
// Locks, outermost first: container.life (one of start, remove at a time), container.agreeing (one change of its record
// at a time), container.naming (its files of names), Node.mu (the index), container.mu (state). No lock but the first three
// is held while a shim, etcd or the disk is waited for.
package node
