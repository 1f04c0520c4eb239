// Package sched owns the choice of a node for a container: Place(snapshot, request) gives a decision with its reasons.
// It must not do I/O, read a clock, draw random numbers of its own or start goroutines: the same input gives the same decision.
//
// The story, in the order of the files:
//
//	request.go    what is asked for; constraint.go: the Swarm syntax of affinities and constraints
//	snapshot.go   what is known of nodes and containers, as struct of arrays; change.go: how its owner changes it between decisions
//	profile.go    what containers of an image use at each hour of the day; history.go: the profiles of all images, crashes
//	estimate.go   what one container is expected to use: its image's profile, then its own samples
//	risk.go       how likely a node's demand exceeds its capacity; margin.go: how far predictions are stretched, learnt from misses
//	filter.go     reasons why a node cannot take a request; score.go: the cost of a node that can
//	index.go      which nodes to look at, so that cost does not grow with the fleet
//	place.go      the decision; explain.go: the decision as text and JSON
//	rebalance.go  which container to move off a hot node, as advice
//	record.go     a snapshot as JSON, for replay
//
// A Snapshot belongs to one goroutine. Place only reads it, so any number of decisions may be made of an unchanged one.
package sched
