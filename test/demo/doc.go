// Command demo shows a running tritond at work: it makes three images from Debian packages and a C program, without a
// registry, runs them, puts load on them and says where to look. `make demo` runs it, `make demo-stop` takes all back.
// It speaks to the daemon by the docker client only, and must not know the daemon's insides.
package main
