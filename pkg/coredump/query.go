package coredump

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Query chooses dumps: words that must all hold, each a field, an operator and a value. The operators are = and != (equal,
// for image also without its tag), ~ and !~ (contains), and for mtime, the age, < and > with a number and s, m, h or d.
type Query []term

type term struct{ field, op, value string }

// maxQuery bounds a query's text.
const maxQuery = 4096

// queryFields are the fields' values in a record; one with several holds if any does.
var queryFields = map[string]func(r *Record, frames func() []string) []string{
	"id":        func(r *Record, _ func() []string) []string { return []string{r.ID} },
	"signal":    func(r *Record, _ func() []string) []string { return []string{r.Signal} },
	"image":     func(r *Record, _ func() []string) []string { return []string{r.Image, untagged(r.Image), r.ImageID} },
	"container": func(r *Record, _ func() []string) []string { return []string{r.Name, r.Container.ID} },
	"comm":      func(r *Record, _ func() []string) []string { return []string{r.Comm} },
	"exe":       func(r *Record, _ func() []string) []string { return []string{r.Exe} },
	"body":      func(r *Record, _ func() []string) []string { return []string{r.Body} },
	"kind":      func(r *Record, _ func() []string) []string { return []string{kindOf(r)} },
	"group":     func(r *Record, _ func() []string) []string { return []string{groupOf(r)} },
	"place":     func(r *Record, _ func() []string) []string { return []string{r.Place} },
	"buildid": func(r *Record, _ func() []string) []string {
		var ids []string
		for _, m := range r.Modules {
			ids = append(ids, m.BuildID)
		}
		return ids
	},
	"frame": func(_ *Record, frames func() []string) []string { return frames() },
	"mtime": nil,
}

func groupOf(r *Record) string {
	if r.Analysis == nil {
		return ""
	}
	return r.Analysis.Group
}

func kindOf(r *Record) string {
	if r.Kind == "" {
		return "crash"
	}
	return r.Kind
}

// untagged drops an image's tag, not a registry's port.
func untagged(image string) string {
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return image[:i]
	}
	return image
}

// ParseQuery reads a query; errdefs.ErrInvalidArgument says what is wrong.
func ParseQuery(text string) (Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("query of %d characters: at most %d: %w", len(text), maxQuery, errdefs.ErrInvalidArgument)
	}
	var q Query
	for _, word := range strings.Fields(text) {
		i := strings.IndexAny(word, "=!~<>")
		if i < 1 {
			return nil, fmt.Errorf("query %q: want FIELD=VALUE, !=, ~, !~, or mtime<AGE: %w", word, errdefs.ErrInvalidArgument)
		}
		t := term{field: word[:i], op: word[i : i+1], value: word[i+1:]}
		if t.op == "!" && t.value != "" && strings.ContainsAny(t.value[:1], "=~") {
			t.op, t.value = "!"+t.value[:1], t.value[1:]
		}
		_, known := queryFields[t.field]
		isAge, compares := t.field == "mtime", t.op == "<" || t.op == ">"
		switch {
		case !known:
			return nil, fmt.Errorf("query %q: unknown field %q: %w", word, t.field, errdefs.ErrInvalidArgument)
		case t.value == "" || t.op == "!" || isAge != compares:
			return nil, fmt.Errorf("query %q: want FIELD=VALUE, !=, ~, !~, or mtime<AGE: %w", word, errdefs.ErrInvalidArgument)
		}
		if isAge {
			if _, err := parseAge(t.value); err != nil {
				return nil, fmt.Errorf("query %q: %w: %w", word, err, errdefs.ErrInvalidArgument)
			}
		}
		q = append(q, t)
	}
	return q, nil
}

// parseAge reads a number and s, m, h or d.
func parseAge(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	unit := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil || unit == 0 || time.Duration(n) > (1<<62)/unit {
		return 0, fmt.Errorf("age %q: want a number and s, m, h or d", s)
	}
	return time.Duration(n) * unit, nil
}

// Holds reports whether a record is one that q chooses. frames gives the functions on its stacks; it is asked only if q
// has a term for it.
func (q Query) Holds(r *Record, now time.Time, frames func() []string) bool {
	for _, t := range q {
		if !t.holds(r, now, frames) {
			return false
		}
	}
	return true
}

func (t term) holds(r *Record, now time.Time, frames func() []string) bool {
	if t.field == "mtime" {
		age, _ := parseAge(t.value) // ParseQuery did
		return (now.Sub(r.At) < age) == (t.op == "<")
	}
	hit := false
	for _, v := range queryFields[t.field](r, frames) {
		hit = hit || v == t.value && strings.HasSuffix(t.op, "=") || strings.HasSuffix(t.op, "~") && strings.Contains(v, t.value)
	}
	return hit == !strings.HasPrefix(t.op, "!")
}
