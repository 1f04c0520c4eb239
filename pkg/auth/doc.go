// Package auth owns the answer to who calls: tenants, their tokens and certificates, logins, and the middleware that puts
// the Caller into a request's context. It must not know what a caller may do with containers; handlers decide that.
package auth
