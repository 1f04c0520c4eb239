// Package cluster owns the bytes that all daemons agree on: keys, values, revisions and watches, kept by etcd.
// It must not know what the bytes mean; containers, images and tenants are the business of its callers.
//
// Today etcd is embedded with a single member and reached by function calls: nothing listens, neither on TCP nor on a
// Unix socket, so that any number of daemons run on one machine.
package cluster
