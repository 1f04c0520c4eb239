// Package imagetest owns the making of small images for tests: layers from lists of files, docker archives and OCI layouts
// from layers. It must not be imported by anything but tests, and knows nothing of a store.
package imagetest
