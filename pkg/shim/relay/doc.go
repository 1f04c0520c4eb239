// Package relay owns the way of connections and datagrams from sockets of the host to a container's ports where no
// translation of addresses leads: from IPv6 to a container that has IPv4 alone, and from ::1. It must not open listening
// sockets of its own, nor know what a container is.
//
// An idle port costs a parked goroutine, an idle connection two: buffers are taken when there are bytes to read. What all
// ports of a Relay may have open at once is bounded, see maxConnections and maxFlows. A container sees its own gateway as
// the peer, as with docker's proxy.
package relay
