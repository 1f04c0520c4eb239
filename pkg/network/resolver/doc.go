// Package resolver owns the DNS server that containers in users' networks ask: it answers for names of containers and asks
// the host's resolvers for all others. It must not know what a container or a network is: who may see which names is told
// by its Source.
package resolver
