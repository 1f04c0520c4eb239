// Package placement owns what this machine knows to decide whether a container may run here: a scheduler's snapshot fed by
// telemetry, the history of images on disk, the promises made to containers. It must not run containers, nor keep decisions:
// the node does, beside its records.
//
//	placement.go  the parts and the tick that feeds them
//	request.go    from a specification to what the scheduler is asked
//	life.go       what the node asks and tells: create, start, end, change, removal
//	measure.go    from samples to the scheduler's frames and the history of images
//	store.go      history on disk
//	metrics.go    what is counted
package placement
