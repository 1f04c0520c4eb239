// Command testsum reads the output of `go test -json` and prints what failed, and in its last line how many tests
// passed and failed. A skipped test counts as failed.
package main
