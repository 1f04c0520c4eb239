// Package machine owns what benchmarks say of the machine that they ran on. It must not measure.
package machine
