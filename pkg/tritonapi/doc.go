// Package tritonapi owns the HTTP paths below /triton/v1: what docker has no verb for. It must not know Docker's API,
// and it decides nothing: it shows what the parts below it know.
package tritonapi
