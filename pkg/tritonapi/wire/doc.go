// Package wire owns the JSON and the paths of /triton/v1, as server and client both have them. It must not import a part
// of the daemon: the client starts in the time that its packages take to initialise.
package wire
