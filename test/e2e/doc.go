// Package e2e owns the proof that the stock docker client works against the daemon as users run it, that every
// container is observed, and that the daemon may die. It has tests only, and must not reach into the daemon's packages:
// what it sees is what a user can see, /proc and the kernel included.
//
// The daemon is bin/tritond, or TRITON_E2E_BIN/tritond. TRITON_E2E_HOST names another engine (unix://PATH, docker.io for
// Debian's, which is then installed, or moby for the modern one of `make peer`; both are started for the tests) against which the portable tests run: it shows that the tests are right.
// TRITON_E2E_NETNS is the network namespace of that engine's bridge. TRITON_E2E_LONG=1 runs the long forms.
package e2e
