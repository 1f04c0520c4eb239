//go:build race

package telemetry

// raceDetector: times and sizes are the detector's, not ours.
const raceDetector = true
