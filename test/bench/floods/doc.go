// Command floods measures what a container that does one thing without end (processes, programs, cores, lines of log, writes to
// the disk), within limits, or a client that makes events without end, does to its neighbour and to the daemon: the neighbour's
// latency from inside, without and with the flood and with the same flood as bare processes under the same limits, in turns, the
// daemon's answers meanwhile, and what was dropped. It must not judge: misses are printed like hits. It takes kernel.core_pattern
// while it runs.
//
//	go run ./test/bench/floods               all floods, some four minutes
//	go run ./test/bench/floods -only log     one of forks, execs, cores, log, disk, events
//	go run ./test/bench/floods -probes off   the same beside a daemon that observes nothing
package main
