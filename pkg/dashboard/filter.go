package dashboard

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Filter selects containers: terms that must all hold. A term is word (part of the name, image or id), key:pattern
// (name, image, id, state; * and ? as in shells), label:name or label:name=pattern, or number>value and number<value
// (cpu, throttled, mem, wait, syscalls, errors, pids, restarts; values may end in k, M, G or ms, us). A term after - must
// not hold; quotes keep spaces together. The page has the same grammar, with the same test vectors.
type Filter struct{ terms []term }

type term struct {
	not  bool
	key  string // "": a word
	op   byte   // ':', '<' or '>'
	text string // the pattern, or the number as it was given
	num  float64
}

const (
	maxTerms = 32
	maxQuery = 1024
)

// textKeys are followed by a pattern; numberKeys name a column of the table.
var (
	textKeys   = map[string]bool{"name": true, "image": true, "id": true, "state": true, "label": true}
	numberKeys = map[string]int{
		"cpu": colCPU, "throttled": colThrottled, "mem": colMemory, "wait": colWait99,
		"syscalls": colSyscalls, "errors": colErrors, "pids": colPids, "restarts": tableCols,
	}
)

// ParseFilter reads a query; the empty one selects all. Errors are errdefs.ErrInvalidArgument.
func ParseFilter(query string) (Filter, error) {
	bad := func(format string, args ...any) (Filter, error) {
		return Filter{}, fmt.Errorf("filter: %s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	if len(query) > maxQuery {
		return bad("longer than %d characters", maxQuery)
	}
	words, err := splitQuery(query)
	if err != nil {
		return bad("%v", err)
	}
	if len(words) > maxTerms {
		return bad("more than %d terms", maxTerms)
	}
	var f Filter
	for _, w := range words {
		t, err := parseTerm(w)
		if err != nil {
			return bad("%v", err)
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

// splitQuery cuts at spaces outside of double quotes, and removes those.
func splitQuery(q string) (words []string, err error) {
	var b strings.Builder
	quoted, begun := false, false
	for _, r := range q {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, b.String())
			}
			b.Reset()
			begun = false
		default:
			b.WriteRune(r)
			begun = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if begun {
		words = append(words, b.String())
	}
	return words, nil
}

func parseTerm(w string) (term, error) {
	var t term
	if rest, ok := strings.CutPrefix(w, "-"); ok {
		t.not, w = true, rest
	}
	at := strings.IndexAny(w, ":<>")
	if at < 0 {
		t.text = w
		if w == "" {
			return t, fmt.Errorf("an empty term")
		}
		return t, nil
	}
	t.key, t.op, t.text = w[:at], w[at], w[at+1:]
	_, number := numberKeys[t.key]
	switch {
	case t.op == ':' && textKeys[t.key]:
		if t.text == "" {
			return t, fmt.Errorf("%s: needs a pattern", t.key)
		}
		pattern := t.text
		if t.key == "label" {
			_, pattern, _ = strings.Cut(t.text, "=")
		}
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, `[\`) {
			return t, fmt.Errorf("pattern %q: only * and ? are special, [ and \\ are not allowed", pattern)
		}
		return t, nil
	case t.op != ':' && number:
		var err error
		t.num, err = parseNumber(t.text)
		return t, err
	case number:
		return t, fmt.Errorf("%s is a number: use %s>1 or %s<1", t.key, t.key, t.key)
	case textKeys[t.key]:
		return t, fmt.Errorf("%s is a text: use %s:pattern", t.key, t.key)
	}
	return t, fmt.Errorf("%q is nothing to filter by", t.key)
}

// units end a number.
var units = []struct {
	suffix string
	factor float64
}{{"ms", 1e-3}, {"us", 1e-6}, {"k", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}}

func parseNumber(s string) (float64, error) {
	factor, digits := 1.0, s
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			factor, digits = u.factor, rest
			break
		}
	}
	for _, r := range digits {
		if r != '.' && (r < '0' || r > '9') {
			return 0, fmt.Errorf("%q is not a number", s)
		}
	}
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return v * factor, nil
}

// String gives the filter in a form that is the same for equal filters, and parses to it.
func (f Filter) String() string {
	var words []string
	for _, t := range f.terms {
		w := t.text
		if t.key != "" {
			w = t.key + string(t.op) + w
		}
		if t.not {
			w = "-" + w
		}
		if strings.Contains(w, " ") {
			w = `"` + w + `"`
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// Match reports whether a row passes. vals are the table's columns. A number that is unknown neither exceeds nor falls below
// anything.
func (f Filter) Match(m *RowMeta, vals []float32) bool {
	for _, t := range f.terms {
		if t.match(m, vals) == t.not {
			return false
		}
	}
	return true
}

func (t term) match(m *RowMeta, vals []float32) bool {
	switch t.key {
	case "":
		return strings.Contains(m.Name, t.text) || strings.Contains(m.Image, t.text) || strings.HasPrefix(m.ID, t.text)
	case "name":
		return glob(t.text, m.Name)
	case "image":
		return glob(t.text, m.Image)
	case "id":
		return glob(t.text, m.ID)
	case "state":
		return glob(t.text, m.Status)
	case "label":
		name, pattern, valued := strings.Cut(t.text, "=")
		v, there := m.Labels[name]
		return there && (!valued || glob(pattern, v))
	}
	v := float64(m.Restarts)
	if col := numberKeys[t.key]; col < tableCols {
		v = float64(vals[col])
	}
	if t.op == '>' {
		return v > t.num
	}
	return v < t.num
}

// glob matches * and ?, and unlike path.Match lets * pass a slash: image names have them.
func glob(pattern, s string) bool {
	p, r := []rune(pattern), []rune(s)
	star, mark, i, j := -1, 0, 0, 0
	for j < len(r) {
		switch {
		case i < len(p) && (p[i] == '?' || p[i] == r[j] && p[i] != '*'):
			i++
			j++
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
