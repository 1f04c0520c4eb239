// Command services measures redis and nginx, from Debian's packages, at full load: as processes of the host, and in
// containers of tritond at each level of its probes. The loads are Debian's redis-benchmark and wrk.
//
// It owns the placing of server and client, the turns, and the table. Each round starts every placement anew, in turns,
// and no container of another level runs meanwhile: hooks of system calls tax the whole machine while they are attached.
// It must not import a package of the daemon.
package main
