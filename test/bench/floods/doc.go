// Command floods measures what a container that does one thing without end (processes, programs, cores, lines of log, writes to
// the disk), within limits, does to its neighbour and to the daemon: the neighbour's latency from inside, with and without
// the flood in turns, the daemon's answers meanwhile, and what was dropped. It must not judge: misses are printed like hits.
// It takes kernel.core_pattern while it runs.
//
//	go run ./test/bench/floods               all floods, some three minutes
//	go run ./test/bench/floods -only log     one of forks, execs, cores, log, disk
package main
