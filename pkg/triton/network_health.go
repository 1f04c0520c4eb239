package triton

// NetworkHealth is how a container's network fares. Counters only grow; all of it goes by the owner of the socket.
type NetworkHealth struct {
	// Connect has the TCP connections that the container opened, from the first SYN to the answer; schema 2.
	Connect Histogram
	// Accept has the TCP connections that the container accepted, from their opening to the return of accept; schema 2.
	Accept Histogram
	// RTT samples the kernel's smoothed round trip time of TCP connections: once a second while segments come, and
	// when data ends; schema 2.
	RTT Histogram
	// ConnectFailures are attempts to open a TCP connection, by what they came to: refused, timeout, unreachable,
	// reset, abandoned (closed by the program that wanted it), no_port (all local ports were taken), other.
	ConnectFailures map[string]uint64
	ResetsSent      uint64 // TCP
	ResetsReceived  uint64
	// Drops are packets that the kernel dropped, by its reason in lower case: socket_rcvbuff, netfilter_drop and so on.
	// Those that never happened are absent.
	Drops map[string]uint64
}
