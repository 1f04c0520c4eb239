package triton

import "time"

// NameService is what a container asked name servers, by the owner of the socket. Counters only grow.
type NameService struct {
	// RoundTrip has the answered questions, from the packet with the question to that with the beginning of the answer; schema 2.
	RoundTrip Histogram
	Asked     uint64 // questions sent; one that is sent again counts again
	AskedTCP  uint64 // of these, by TCP
	// Answers are by code: NOERROR, NXDOMAIN and so on. Those that never came are absent.
	Answers   map[string]uint64
	Truncated uint64 // answers that did not fit; in Answers too
	// Unanswered questions were sent again before an answer came, or got none within NameTimeout.
	Unanswered uint64
	Untimed    uint64 // questions of which nothing more is known: too many waited for answers
	Unasked    uint64 // answers to no question that waited: late, forged, or to those that are Untimed
	Malformed  uint64 // messages to or from the service's port that are neither question nor answer
	Unnamed    uint64 // questions and answers that found no room among the names
	// Unfollowed are directions of connections whose messages could be told apart no more: one was parted, lost, or one of too many in
	// a packet. What came after is not counted, but questions that then seem to have no answer are Unanswered.
	Unfollowed uint64
}

// NameTimeout is for how long an answer is awaited: as long as resolv.conf(5) has resolvers wait at first.
const NameTimeout = 5 * time.Second

// AskedName is a name that a container asked for.
type AskedName struct {
	Name string // with escapes, in lower case, with a dot at its end
	Type string // A, AAAA, …; TYPE65280 of one without a name
	// Asked and the rest count since the name came into the list.
	Asked      uint64
	Answered   uint64
	Missing    uint64 // answers that there is none such: NXDOMAIN
	Failed     uint64 // answers with another error
	Unanswered uint64
	Wait       time.Duration // for the answers, all together
	Last       time.Time     // when it was asked for or answered last, within a second
}

// AskedNames are the names that a container asks for most, and last.
type AskedNames struct {
	Names []AskedName // most asked first
	// Other are questions that are not in Names: of names that made room for others, and that found none.
	Other uint64
}
