// Package arch owns the tests that hold the whole tree to its layout and style; docs/architecture.md tells the reasons.
// It has no code of its own and must not test what a single package does.
package arch
