// Package archive owns the way of files into and out of a container: a view of its root that nobody else sees, tar streams
// read from it and unpacked into it, and what differs from its image. It must not know Docker's HTTP API, images or
// volumes: directories come in as paths.
//
// # Views
//
// A View is a tree of mounts that is attached nowhere. It is made in a mount namespace that a thread has for itself, and
// lives on in a descriptor when the thread has ended. So nothing of it is left when it is closed or the daemon is killed,
// and no path within it can lead to the host: every look-up goes through openat2(2) with RESOLVE_IN_ROOT.
//
// # Owners
//
// Within a view files belong to the ids that the container's user namespace maps to; in a tar, to those that its programs
// see. Who makes a file in an id-mapped mount must have an id that the map knows: the thread that unpacks takes the file
// system ids of the container's root, and keeps its capabilities.
package archive
