package wire

import (
	"net/url"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

// DNSPath answers DNS of one container.
func DNSPath(ref string) string {
	return Prefix + "containers/" + url.PathEscape(ref) + "/dns"
}

// DNS tells what a container asked name servers since its start.
type DNS struct {
	At        time.Time         `json:"at"`
	Name      string            `json:"name"` // of the container
	RoundTrip triton.Histogram  `json:"roundTrip"`
	Asked     uint64            `json:"asked"`
	AskedTCP  uint64            `json:"askedTCP"` // of these, by TCP
	Answers   map[string]uint64 `json:"answers"`  // by code: NOERROR, NXDOMAIN, …
	Truncated uint64            `json:"truncated"`
	// Unanswered questions were asked again before an answer came, or had none in 5 s.
	Unanswered uint64 `json:"unanswered"`
	Untimed    uint64 `json:"untimed"`    // of these it is not known: too many waited
	Unasked    uint64 `json:"unasked"`    // answers to nothing that waited
	Malformed  uint64 `json:"malformed"`  // messages that are neither
	Unfollowed uint64 `json:"unfollowed"` // directions of connections whose messages could be told apart no more
	// Names are at most 64, most asked first.
	Names []DNSName `json:"names"`
	Other uint64    `json:"other"` // questions not in Names
}

// DNSName is a name of one type of records.
type DNSName struct {
	Name       string    `json:"name"`
	Type       string    `json:"type"`
	Asked      uint64    `json:"asked"`
	Answered   uint64    `json:"answered"`
	Missing    uint64    `json:"missing"` // answered NXDOMAIN
	Failed     uint64    `json:"failed"`  // answered with another error
	Unanswered uint64    `json:"unanswered"`
	Seconds    float64   `json:"seconds"` // waited for answers, all together
	Last       time.Time `json:"last"`
}
