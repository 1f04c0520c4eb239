// Package dockerapi owns the Docker Engine API, 1.40 to 1.51, as Triton serves it: routes, decoding, Docker's JSON and
// its streams. It must NOT know how a container runs: everything it needs of the machine is behind Backend.
//
// The story, in reading order: server.go (New, a request's way in), routes.go (every endpoint, one row each),
// rules.go (every field of a create body, one row each), then one file per group of endpoints.
package dockerapi
