package backtrace

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// Where names come from, in the order in which they are preferred.
const (
	fromDWARF = "dwarf"
	fromGo    = "pclntab"
)

// name fills a frame in, and adds those that were put into it before it.
func (x *analysis) name(f Frame, lookup uint64) []Frame {
	if f.Module < 0 {
		return []Frame{f}
	}
	m := x.modules[f.Module]
	f.Offset = f.PC - m.bias
	calls, known := x.named[lookup]
	if !known {
		calls = m.calls(lookup - m.bias)
		x.named[lookup] = calls
	}
	frames := make([]Frame, 0, len(calls)+1)
	for i, c := range calls {
		g := f
		g.Func, g.File, g.Line = c.Func, c.File, c.Line
		if g.Inline = i < len(calls)-1; g.Inline {
			g.By, g.Kind = "", ""
		}
		frames = append(frames, g)
	}
	if len(frames) == 0 {
		frames = append(frames, f)
	}
	return frames
}

// calls names the functions at pc, in the module's own addresses, innermost first.
func (m *module) calls(pc uint64) []Frame {
	var out []Frame
	if l := m.debug(); l.data != nil {
		m.try(func() error {
			calls, err := l.find(pc)
			for _, c := range calls {
				if c.name != "" {
					out = append(out, Frame{Func: readable(c.name), File: Printable(c.file), Line: c.line})
				}
			}
			return err
		})
		if len(out) > 0 {
			m.Symbols = fromDWARF
			return out
		}
	}
	if t := m.goTable(); t != nil {
		if f, ok := t.find(pc); ok && f.name() != "" {
			file, line := f.line(pc)
			m.from(fromGo)
			return []Frame{{Func: Printable(f.name()), File: Printable(file), Line: line}}
		}
	}
	n := m.symbols()
	if s := n.find(pc); s != "" {
		m.from(n.from)
		s, _, _ = strings.Cut(s, "@") // the version of a symbol
		return []Frame{{Func: readable(s)}}
	}
	return nil
}

func (m *module) from(source string) {
	if m.Symbols == "" {
		m.Symbols = source
	}
}

// readable is a name as its source has it, without parameters.
func readable(name string) string {
	const longest = 11 // as the exponent of 2
	return Printable(demangle.Filter(name, demangle.NoParams, demangle.MaxLength(longest)))
}

// Printable makes foreign text harmless to terminals and to pages.
func Printable(s string) string {
	if len(s) > maxName {
		s = s[:maxName]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return '.'
		}
		return r
	}, s)
}
