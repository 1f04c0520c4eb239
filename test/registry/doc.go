// Package registry starts distribution's registry on loopback for tests and benchmarks: plain, with basic auth or with
// TLS. It must not be imported by product code.
package registry
