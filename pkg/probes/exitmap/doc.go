// Package exitmap owns the Go view of the pinned exit map, so that a shim can learn how an adopted process ended. It
// loads no programs and writes nothing; package probes does.
package exitmap
