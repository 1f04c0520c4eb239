// Package clients owns the tests of other people's client libraries against the built daemon: dockerode and testcontainers,
// in the versions of package-lock.json. The checks are in *.test.mjs and take DOCKER_HOST, so that they say the same of any
// engine; what is here prepares one, and checks nothing itself.
package clients
