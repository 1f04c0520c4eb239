// Command probes owns the comparison of observed and unobserved work on one machine: what a system call, a switch and a profile
// cost at each level, beside what they cost without, in turns within one run, and what observation takes of
// memory. It must not judge: misses are printed like hits.
//
//	go run ./test/bench/probes               all parts, in less than ten minutes
//	go run ./test/bench/probes -only waits   one of calls, waits, connections, profile, memory
//
// The parts are Go benchmarks of the packages that they are about; bpftrace, which one compares with, is installed from
// Debian's package where it is missing. What services lose is test/bench/services' subject.
package main
