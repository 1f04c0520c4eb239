// Package host owns the answer to what this machine gives the daemon: kernel, control groups, file systems, network,
// rights and room. It only looks: whatever it makes to try something is detached, in a namespace of its own, and gone when
// it returns. It must not know containers.
package host
