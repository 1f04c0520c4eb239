// Package engine owns the engines that tests and benchmarks talk to: a tritond with roots of its own, or Debian's
// dockerd as peer, and the stock docker client, HTTP and /proc as means to look at them. It must not judge what it
// sees: tests do.
package engine
