// Package cgroup owns the paths, ids and readings of control groups on pure v1, hybrid and pure v2 machines, and those of the
// machine as a whole.
// It must not know what a container is, nor set limits: the runtime library does that.
package cgroup
