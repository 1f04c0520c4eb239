// Command bench owns the comparison of tritond with a peer engine on one machine: interleaved rounds, medians and
// minima, as a Markdown table for docs/benchmarks.md. It must not judge: misses are printed like hits.
//
//	go run ./test/bench                      tritond alone
//	PEER=docker.io go run ./test/bench       beside Debian's engine, installed and started on its own socket
//	PEER=moby go run ./test/bench            beside a modern dockerd, which `make peer` builds
//	PEER=unix:///run/docker.sock …           beside an engine that runs; its CPU time and memory are not known
//
// Both engines run the same images by the same docker client; dockerd has a network namespace of its own, so that
// the machine's own firewall is not touched, and a /run of its own.
package main
