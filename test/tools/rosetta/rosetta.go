// Package rosetta stands in for github.com/tonistiigi/go-rosetta, which module mirrors do not carry. The docker client
// asks it one question, whose answer on Linux is always no.
package rosetta

// Enabled reports whether the process runs under macOS's translation.
func Enabled() bool { return false }
