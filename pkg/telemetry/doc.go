// Package telemetry owns what is remembered and published of containers' use: samples, windows, subscriptions and the
// Prometheus exporter. It must not read cgroups or load probes: a source function brings it each sample.
package telemetry
