// Command schedreplay owns the judgement of pkg/sched: it replays traces of real machines against placement policies and
// writes one table and plots of admitted load against violations. It must not be imported, and its policies see of a trace
// only what a scheduler could have seen by then.
//
//	schedreplay -traces DIR [-out DIR] [-seeds 3] [-quick]     replay every NAME.cpu.csv.gz of a folder (format: trace.go)
//	schedreplay -generated [-quick]                            replay a small generated workload
//	schedreplay -record FILE                                   decide again what a daemon recorded (format: record.go)
package main
