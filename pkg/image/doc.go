// Package image owns a machine's images and the file systems of its containers: content, names, unpacked layers and
// writable layers, all below one directory. It must not know networks, processes or Docker's HTTP API.
//
// # How containerd is embedded
//
// The content store, the metadata database, the overlayfs snapshotter, leases and the garbage collector are
// constructed directly from containerd's core and plugins packages. The other way, cmd/containerd/server, goes
// through a plugin registry that is global to the process, and its in-memory client insists on transfer, streaming,
// sandbox, mount and introspection services which nothing here needs; it also allows one instance per process only.
//
// # Names
//
// A tenant is a containerd namespace, "triton-" and its name. An image has one record named by its id (the digest
// of its config) that keeps manifest, config, layers' content and layers' snapshots alive, and one record per tag. A tag
// that moves therefore leaves an image without tags behind, as docker does. The content policy is "isolated": to get at
// a blob, a tenant must have sent all of its bytes, and a layer is only ever shared after its bytes were seen to hash
// to its diff id. Layers are shared within a tenant, not between tenants.
//
// # Writable layers
//
// A container's writable layer is a plain directory, not a containerd snapshot. A snapshot would cost two bolt
// transactions (four fdatasyncs) on the path of `docker run` and as many to remove. Instead the directory
//
//	rw/TENANT/ID/{fs,work,lower-CHAIN}
//
// appears by one rename, and CHAIN, in the name of an empty file, says what lies below it. All of that is metadata of
// the file system, which journaling file systems commit in order: after a power loss the directory is there as a whole
// or not at all, and it is there whenever anything that was synced in it later is. The collector asks this package which
// chains such directories use, so that a removed image's layers live as long as the last container on them.
package image
