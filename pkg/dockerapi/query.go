package dockerapi

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// query reads docker's URL parameters. Parameters nobody asks for are ignored: clients repeat body fields there.
type query struct{ url.Values }

// bool is true for anything but docker's words for false.
func (q query) bool(name string) bool {
	switch strings.ToLower(strings.TrimSpace(q.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// boolOr is bool with a default for a parameter that is absent.
func (q query) boolOr(name string, absent bool) bool {
	if !q.Has(name) {
		return absent
	}
	return q.bool(name)
}

// size reads a terminal's dimension.
func (q query) size(name, what string) (uint, error) {
	n, err := strconv.ParseUint(q.Get(name), 10, 32)
	if err != nil {
		return 0, invalid("invalid resize %s %q: %v", what, q.Get(name), err.(*strconv.NumError).Err) //nolint:errorlint // documented type
	}
	return uint(n), nil
}

// seconds reads an optional number of seconds; nil when absent.
func (q query) seconds(name string) (*int, error) {
	if q.Get(name) == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil {
		return nil, invalid("invalid %s %q: not a number of seconds", name, q.Get(name))
	}
	return &n, nil
}

// time reads a moment: unix seconds with an optional fraction, as clients send it, or a duration before now, or
// RFC 3339. "" and "0" are the zero time.
func (q query) time(name string, now time.Time) (time.Time, error) {
	t, err := parseTime(q.Get(name), now)
	if err != nil {
		return time.Time{}, invalid("invalid value for %q: %v", name, err)
	}
	return t, nil
}

// epochTime is time for a bound of events, of which "0" is one, too: the beginning of 1970.
func (q query) epochTime(name string, now time.Time) (time.Time, error) {
	if q.Get(name) == "0" {
		return time.Unix(0, 0), nil
	}
	return q.time(name, now)
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	if t, ok := parseUnix(text); ok {
		return t, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid("failed to parse value as time or duration: %q", text)
}

// parseUnix reads "1700000000.000000001". The fraction is decimal: ".5" is half a second; digits beyond nine are cut.
func parseUnix(text string) (time.Time, bool) {
	secText, fracText, _ := strings.Cut(text, ".")
	sec, err := strconv.ParseInt(secText, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	const nanoDigits = 9
	fracText = (fracText + "000000000")[:nanoDigits]
	frac, err := strconv.ParseUint(fracText, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(sec, int64(frac)), true
}
