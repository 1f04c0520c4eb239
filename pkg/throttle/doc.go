// Package throttle owns when a request of a tenant's client is worked on: at once, after others of the tenant, or never; and how many connections
// a tenant has. It must not know what a request is about.
package throttle
