// Package death owns the records of containers' abnormal ends: what one says, its reason in a line, the goroutines of a Go
// panic, and a bounded store of them. It must not know how a container runs: who calls it has read all that a record holds.
package death
