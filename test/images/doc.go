// Package images owns the container images that the tests run: docker-archive tars made from this machine's static
// busybox and from C programs in src/, with the same bytes on every build. It needs no registry, no network and no
// engine, and it must not talk to one: loading is the caller's business.
package images
