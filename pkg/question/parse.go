package question

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Text is a question as somebody writes it.
type Text struct {
	Metric string
	Where  string // "": everything
	By     string // "": container
}

// Names finds numbers of what only this machine knows.
type Names struct {
	Syscalls func(pattern string) ([]int, error)     // ascending; * is special
	Device   func(name string) (dev uint64, _ error) // as the kernel has it: major << 20 | minor
}

// Parse understands a question; errors are *Error.
func Parse(t Text, names Names) (*Question, error) {
	q := &Question{Metric: Metric(t.Metric)}
	if !slices.Contains(Metrics, q.Metric) {
		return nil, &Error{"metric", 0, fmt.Sprintf("no metric is named %q; there are %s", t.Metric, list(Metrics))}
	}
	if err := q.parseBy(t.By); err != nil {
		return nil, err
	}
	p := parser{lexer: lexer{in: t.Where}, names: names, q: q}
	if err := p.parse(); err != nil {
		return nil, err
	}
	return q, nil
}

func list[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, w := range all {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}

func (q *Question) parseBy(by string) error {
	bad := func(at int, format string, args ...any) error { return &Error{"by", at, fmt.Sprintf(format, args...)} }
	if by == "" {
		by = string(Container)
	}
	if len(by) > textMax {
		return bad(textMax, "longer than %d bytes", textMax)
	}
	at := 0
	for part := range strings.SplitSeq(by, ",") {
		name := strings.TrimSpace(part)
		first, label, isLabel := strings.Cut(name, ":")
		d := Dimension{Field(first), label}
		switch {
		case name == "":
			return bad(at, "a name is missing; there are %s", list(ApartBy(q.Metric)))
		case !slices.Contains(ApartBy(q.Metric), d.Field):
			return bad(at, "%s has no %q to tell apart; there are %s", q.Metric, first, list(ApartBy(q.Metric)))
		case isLabel != (d.Field == Label) || isLabel && label == "":
			return bad(at, "%q: a label is told apart by label:NAME", name)
		case slices.Contains(q.By, d):
			return bad(at, "%s is there twice", d)
		case len(q.By) == byMax:
			return bad(at, "more than %d names", byMax)
		}
		q.By = append(q.By, d)
		at += len(part) + 1
	}
	return nil
}

// parser reads a predicate by recursive descent.
type parser struct {
	lexer
	names Names
	q     *Question
	depth int
}

// node is a part of a predicate.
type node struct {
	kind byte // '&', '|', '!', or 0: a leaf
	kids []*node
	leaf int
	at   int
}

func (p *parser) parse() error {
	if len(p.in) > textMax {
		return p.bad(textMax, "longer than %d bytes", textMax)
	}
	if err := p.next(); err != nil || p.tok.kind == end {
		return err
	}
	root, err := p.either()
	if err != nil {
		return err
	}
	if p.tok.kind != end {
		return p.bad(p.tok.at, "%s where && or || or the end should be", p.tok)
	}
	p.q.Clauses, err = p.clauses(root, false)
	if err != nil {
		return err
	}
	if len(p.q.Clauses) == 0 {
		return p.bad(0, "this can never be so")
	}
	if slices.Contains(p.q.Clauses, Clause{}) {
		p.q.Clauses = nil // it is always so
	}
	return nil
}

// either is ORs of ANDs.
func (p *parser) either() (*node, error) { return p.chain(or, '|', p.all) }

func (p *parser) all() (*node, error) { return p.chain(and, '&', p.unary) }

func (p *parser) chain(operator kind, as byte, part func() (*node, error)) (*node, error) {
	first, err := part()
	if err != nil || p.tok.kind != operator {
		return first, err
	}
	n := &node{kind: as, kids: []*node{first}, at: p.tok.at}
	for p.tok.kind == operator {
		if err := p.next(); err != nil {
			return nil, err
		}
		kid, err := part()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, kid)
	}
	return n, nil
}

func (p *parser) unary() (*node, error) {
	if p.depth++; p.depth > depthMax {
		return nil, p.bad(p.tok.at, "more than %d parentheses and ! within each other", depthMax)
	}
	defer func() { p.depth-- }()
	at := p.tok.at
	switch p.tok.kind {
	case not:
		if err := p.next(); err != nil {
			return nil, err
		}
		kid, err := p.unary()
		return &node{kind: '!', kids: []*node{kid}, at: at}, err
	case open:
		if err := p.next(); err != nil {
			return nil, err
		}
		n, err := p.either()
		if err != nil {
			return nil, err
		}
		if p.tok.kind != shut {
			return nil, p.bad(p.tok.at, "%s where a ) should be, for the ( in column %d", p.tok, at+1)
		}
		return n, p.next()
	case word:
		return p.comparison()
	}
	return nil, p.bad(at, "%s where a comparison should be, as errno=ENOENT", p.tok)
}

// comparison is FIELD OPERATOR VALUE.
func (p *parser) comparison() (*node, error) {
	name := p.tok
	if err := p.next(); err != nil {
		return nil, err
	}
	operator := p.tok
	if operator.kind != compare {
		return nil, p.bad(operator.at, "%s where =, !=, <, <=, > or >= should be", operator)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	value := p.tok
	if value.kind != word {
		return nil, p.bad(value.at, "%s where a value should be", value)
	}
	leaf, err := p.understand(name, operator, value)
	if err != nil {
		return nil, err
	}
	i, err := p.add(leaf, name.at)
	if err != nil {
		return nil, err
	}
	n := &node{leaf: i, at: name.at}
	if operator.text == "!=" {
		n = &node{kind: '!', kids: []*node{n}, at: name.at}
	}
	return n, p.next()
}

// add gives a leaf its number; equal ones have the same.
func (p *parser) add(l Leaf, at int) (int, error) {
	if i := slices.IndexFunc(p.q.Leaves, l.equal); i >= 0 {
		return i, nil
	}
	if len(p.q.Leaves) == LeavesMax {
		return 0, p.bad(at, "more than %d different comparisons", LeavesMax)
	}
	p.q.Leaves = append(p.q.Leaves, l)
	return len(p.q.Leaves) - 1, nil
}

// clauses brings a part of the predicate into the form of alternatives.
func (p *parser) clauses(n *node, negated bool) ([]Clause, error) {
	switch n.kind {
	case 0:
		return p.literal(n, negated)
	case '!':
		return p.clauses(n.kids[0], !negated)
	}
	product := (n.kind == '&') != negated
	out := []Clause{}
	if product {
		out = append(out, Clause{})
	}
	for _, kid := range n.kids {
		cs, err := p.clauses(kid, negated)
		if err != nil {
			return nil, err
		}
		if product {
			cs = multiply(out, cs)
		} else {
			cs = append(out, cs...)
		}
		if out = simplify(cs); len(out) > ClausesMax {
			return nil, p.bad(n.at, "more than %d alternatives, once || is outermost", ClausesMax)
		}
	}
	return out, nil
}

// literal is a leaf or its opposite. What has no latency is neither short nor long, so that the opposite of < is >=, not "not <".
func (p *parser) literal(n *node, negated bool) ([]Clause, error) {
	l := p.q.Leaves[n.leaf]
	if !negated {
		return []Clause{{Must: 1 << n.leaf}}, nil
	}
	if l.Field != Latency {
		return []Clause{{Not: 1 << n.leaf}}, nil
	}
	if l.Low == 0 {
		l.Low, l.High = l.High+1, LatencyMax
	} else {
		l.Low, l.High = 0, l.Low-1
	}
	i, err := p.add(l, n.at)
	return []Clause{{Must: 1 << i}}, err
}

func multiply(a, b []Clause) []Clause {
	out := make([]Clause, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			if c := (Clause{x.Must | y.Must, x.Not | y.Not}); c.Must&c.Not == 0 {
				out = append(out, c)
			}
		}
	}
	return out
}

// simplify leaves out what is within another alternative.
func simplify(cs []Clause) []Clause {
	out := cs[:0:0]
	for i, c := range cs {
		within := func(j int, o Clause) bool {
			return c.Must&o.Must == o.Must && c.Not&o.Not == o.Not && (c != o || j < i)
		}
		redundant := false
		for j, o := range cs {
			redundant = redundant || i != j && within(j, o)
		}
		if !redundant {
			out = append(out, c)
		}
	}
	return out
}

// IsError finds the mistake in err.
func IsError(err error) (*Error, bool) {
	var e *Error
	return e, errors.As(err, &e)
}
