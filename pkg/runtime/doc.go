// Package runtime owns the way from a triton.Spec to a process and its exit record: the OCI configuration, the pool of
// idle shims, the tasks they hold, and what crashes left of them.
// It must not know images, networks, volumes or probes: their results come in as paths, ids and functions.
package runtime
