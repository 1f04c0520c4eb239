package question

import (
	"fmt"
	"strings"
)

type kind int

const (
	end     kind = iota
	word         // a name, or a value
	compare      // = != < <= > >=
	and
	or
	not
	open
	shut
)

// token is one of a predicate; text is without quotes.
type token struct {
	kind kind
	text string
	at   int
}

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

// lexer cuts a predicate into tokens.
type lexer struct {
	in  string
	pos int
	tok token // the current one
}

func (l *lexer) bad(at int, format string, args ...any) error {
	return &Error{"where", at, fmt.Sprintf(format, args...)}
}

// operators, longest first.
var operators = []struct {
	text string
	kind kind
}{
	{"&&", and}, {"||", or}, {"!=", compare}, {"<=", compare}, {">=", compare}, {"=", compare}, {"<", compare}, {">", compare},
	{"!", not}, {"(", open}, {")", shut},
}

// special ends a word.
const special = " \t\r\n&|!=<>()\""

func (l *lexer) next() error {
	for l.pos < len(l.in) && strings.IndexByte(" \t\r\n", l.in[l.pos]) >= 0 {
		l.pos++
	}
	l.tok = token{at: l.pos}
	rest := l.in[l.pos:]
	if rest == "" {
		return nil
	}
	for _, o := range operators {
		if strings.HasPrefix(rest, o.text) {
			l.tok.kind, l.tok.text = o.kind, o.text
			l.pos += len(o.text)
			return nil
		}
	}
	if rest[0] == '&' || rest[0] == '|' {
		return l.bad(l.pos, "%c must be written twice", rest[0])
	}
	return l.word()
}

// word reads up to a special character; what is quoted is part of it.
func (l *lexer) word() error {
	l.tok.kind = word
	var text strings.Builder
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		if c == '"' {
			if err := l.quoted(&text); err != nil {
				return err
			}
			continue
		}
		if strings.IndexByte(special, c) >= 0 {
			break
		}
		text.WriteByte(c)
		l.pos++
	}
	l.tok.text = text.String()
	return nil
}

func (l *lexer) quoted(text *strings.Builder) error {
	from := l.pos
	for l.pos++; l.pos < len(l.in); l.pos++ {
		switch c := l.in[l.pos]; c {
		case '"':
			l.pos++
			return nil
		case '\\':
			if l.pos++; l.pos == len(l.in) || l.in[l.pos] != '"' && l.in[l.pos] != '\\' {
				return l.bad(l.pos-1, `a \ in quotes stands before " or \`)
			}
			text.WriteByte(l.in[l.pos])
		default:
			text.WriteByte(c)
		}
	}
	return l.bad(from, "the quote is not closed")
}
