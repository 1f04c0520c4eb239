// Command services measures redis and nginx, from Debian's packages, at full load. The loads are Debian's redis-benchmark and wrk.
//
// It owns two comparisons. Of levels of the probes with level off: one server in a container works on under one load beside it, and
// the container's level changes several times a second, so that all that makes two runs differ (where a process lies in memory, which
// CPU it is on, the machine's other work) is the same for both; servers count their requests themselves. And of containers with
// processes of the host: each round starts every placement anew, in turns, and no container of another level runs meanwhile.
//
// It must not import a package of the daemon.
package main
