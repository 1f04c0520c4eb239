package dockerapi

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filters is docker's filters parameter: for each name a set of values.
type filters map[string]map[string]bool

// parseFilters reads {"label":["a","b"]} and the older {"label":{"a":true}}, which the CLI and compose still send, and
// refuses names that are not accepted.
func parseFilters(text string, accepted ...string) (filters, error) {
	f := filters{}
	if text == "" {
		return f, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, invalid("invalid filter: %v", err)
	}
	for name, values := range raw {
		if !slices.Contains(accepted, name) {
			return nil, invalid("invalid filter '%s'", name)
		}
		set, err := valueSet(values)
		if err != nil {
			return nil, invalid("invalid filter '%s': %v", name, err)
		}
		if len(set) > 0 {
			f[name] = set
		}
	}
	return f, nil
}

func valueSet(raw json.RawMessage) (map[string]bool, error) {
	var set map[string]bool
	if json.Unmarshal(raw, &set) == nil {
		for value, on := range set {
			if !on {
				delete(set, value)
			}
		}
		return set, nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	set = make(map[string]bool, len(list))
	for _, value := range list {
		set[value] = true
	}
	return set, nil
}

// exact is true when the filter is absent or has one of the values.
func (f filters) exact(name string, values ...string) bool {
	set := f[name]
	return len(set) == 0 || slices.ContainsFunc(values, func(v string) bool { return set[v] })
}

// prefix is true when the filter is absent or has a prefix of one of the values.
func (f filters) prefix(name string, values ...string) bool {
	if f.exact(name, values...) {
		return true
	}
	for want := range f[name] {
		if slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, want) }) {
			return true
		}
	}
	return false
}

// labels is true when all values, "key" or "key=value", are in have.
func (f filters) labels(name string, have map[string]string) bool {
	for want := range f[name] {
		key, value, withValue := strings.Cut(want, "=")
		got, ok := have[key]
		if !ok || withValue && got != value {
			return false
		}
	}
	return true
}

// anyLabel is true when one of the values, "key" or "key=value", is in have.
func (f filters) anyLabel(name string, have map[string]string) bool {
	for want := range f[name] {
		key, value, withValue := strings.Cut(want, "=")
		if got, ok := have[key]; ok && (!withValue || got == value) {
			return true
		}
	}
	return false
}

// until reads prune's filter: a time, or how long ago. The zero Time: not filtered.
func (f filters) until(now time.Time) (time.Time, error) {
	values := sortedKeys(f["until"])
	switch {
	case len(values) == 0:
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, invalid("more than one until filter specified")
	}
	return untilTime(values[0], now)
}

// pruneFilter reads docker's filters of what may be pruned, by labels and age.
func (s *Server) pruneFilter(c *call) (func(labels map[string]string, created time.Time) bool, error) {
	f, err := parseFilters(c.query.Get("filters"), "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	until, err := f.until(s.Now())
	if err != nil {
		return nil, err
	}
	return func(labels map[string]string, created time.Time) bool {
		return f.labels("label", labels) && !f.anyLabel("label!", labels) && (until.IsZero() || created.Before(until))
	}, nil
}

// untilTime reads a value of a filter until. "0" is the beginning of time, as docker has it: nothing is older.
func untilTime(value string, now time.Time) (time.Time, error) {
	if value == "0" {
		return time.Unix(0, 0), nil
	}
	t, err := parseTime(value, now)
	if err != nil || t.IsZero() {
		return time.Time{}, invalid("invalid filter 'until=%s'", value)
	}
	return t, nil
}

// flag reads a filter that is true or false; set says whether it is there.
func (f filters) flag(name string) (value, set bool, err error) {
	values := f[name]
	if len(values) == 0 {
		return false, false, nil
	}
	yes, no := values["1"] || values["true"], values["0"] || values["false"]
	if yes == no {
		return false, false, invalid("invalid filter '%s=%s'", name, strings.Join(sortedKeys(values), ","))
	}
	return yes, true, nil
}

// numbers reads a filter whose values are integers.
func (f filters) numbers(name string) ([]int, error) {
	var list []int
	for _, value := range sortedKeys(f[name]) {
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, invalid("invalid filter '%s=%s'", name, value)
		}
		list = append(list, n)
	}
	return list, nil
}

// patterns compiles a filter's values once per request. As in docker, a value matches as a regular expression anywhere,
// or literally when it is none.
func (f filters) patterns(name string) []*regexp.Regexp {
	list := make([]*regexp.Regexp, 0, len(f[name]))
	for _, value := range sortedKeys(f[name]) {
		re, err := regexp.Compile(value)
		if err != nil {
			re = regexp.MustCompile("^" + regexp.QuoteMeta(value) + "$")
		}
		list = append(list, re)
	}
	return list
}

func anyMatch(patterns []*regexp.Regexp, values ...string) bool {
	for _, re := range patterns {
		if slices.ContainsFunc(values, re.MatchString) {
			return true
		}
	}
	return false
}
