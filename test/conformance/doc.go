// Package conformance owns the scripts that say what each docker command does: text in testdata, one file per command, run
// with the stock docker client. It has tests only, and a script must not see more than a user of docker does.
//
// The scripts run against bin/tritond; TRITON_E2E_HOST=moby (see test/e2e) runs them against a modern dockerd, where each
// check must hold as well, but for those under a differs line, which docs/docker-differences.md explains.
//
// The language is that of testscript, a line per command, with commands of its own, each of which is a check:
//
//	docker ARGS…          runs docker, which must succeed; with ! it must fail
//	exits CODE ARGS…      runs docker, which must end with this exit code
//	out PATTERN           the last command's standard output has a match; with ! it has none
//	err PATTERN           the same for standard error
//	is WORDS…             standard output, trimmed, is exactly this
//	lines N               standard output has so many lines
//	await PATTERN ARGS…   runs docker until its standard output has a match
//	same VAR VAR          two variables have the same value; with ! they differ
//
// What is no check: set VAR keeps the trimmed output in a variable, and
//
//	differs ID            the lines right below it that begin with [tritond] or [docker] hold for one of them only
//
// $C is a prefix for the names of what the script makes; all of that is removed after it. $BUSYBOX, $TRUE and $PROGRAMS are
// images, $REGISTRY is the address of a registry, and $PRIVATE that of one
// that wants the name someone and the password secret.
package conformance
