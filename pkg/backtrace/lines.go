package backtrace

import (
	"debug/dwarf"
	"errors"
	"io"
)

// Bounds of what is looked through in debug information.
const (
	maxEntries = 4 << 20 // of all look-ups in a module
	maxRows    = 8 << 20 // of line tables, likewise
	maxInlines = 64      // within one another
	maxOrigins = 8       // from an entry to the one that has its name
)

// lines is a module's debug information.
type lines struct {
	data    *dwarf.Data
	entries int
	rows    int
}

var errLines = errors.New("more debug information than is looked through")

// debug returns the module's debug information; nil: it has none.
func (m *module) debug() *lines {
	if m.lines != nil {
		return m.lines
	}
	m.lines = &lines{}
	m.try(func() error {
		part := map[string][]byte{}
		for _, name := range []string{"abbrev", "info", "line", "ranges", "str"} {
			b, err := m.debugSection(".debug_" + name)
			if err != nil {
				return err
			}
			part[name] = b
		}
		if part["info"] == nil || part["abbrev"] == nil {
			return nil
		}
		d, err := dwarf.New(part["abbrev"], nil, nil, part["info"], part["line"], nil, part["ranges"], part["str"])
		if err != nil {
			return err
		}
		for _, name := range []string{".debug_addr", ".debug_line_str", ".debug_str_offsets", ".debug_rnglists"} {
			b, err := m.debugSection(name)
			if err != nil {
				return err
			}
			if b != nil {
				if err := d.AddSection(name, b); err != nil {
					return err
				}
			}
		}
		m.lines.data = d
		return nil
	})
	return m.lines
}

// call is a function, and where in its source it is.
type call struct {
	name string
	file string
	line int
}

// find returns the functions at pc, innermost first: those that were put into the last one.
func (l *lines) find(pc uint64) ([]call, error) {
	r := l.data.Reader()
	unit, err := r.SeekPC(pc)
	if errors.Is(err, dwarf.ErrUnknownPC) {
		return nil, nil // of nothing that is described
	}
	if err != nil {
		return nil, err
	}
	file, line, files, err := l.position(unit, pc)
	if err != nil {
		return nil, err
	}
	chain, err := l.chain(r, pc)
	if err != nil || len(chain) == 0 {
		return nil, err
	}
	var calls []call
	for i := len(chain) - 1; i >= 0; i-- {
		e := chain[i]
		calls = append(calls, call{l.name(e), file, line})
		n, _ := e.Val(dwarf.AttrCallFile).(int64)
		file = ""
		if n >= 0 && int(n) < len(files) && files[n] != nil {
			file = files[n].Name
		}
		at, _ := e.Val(dwarf.AttrCallLine).(int64)
		line = int(at)
	}
	return calls, nil
}

// chain returns the function at pc and what was put into it, outermost first. r stands behind the unit.
func (l *lines) chain(r *dwarf.Reader, pc uint64) ([]*dwarf.Entry, error) {
	var found []*dwarf.Entry
	depth := 0 // below the unit
	for {
		if l.entries++; l.entries > maxEntries {
			return nil, errLines
		}
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil || e.Tag == dwarf.TagCompileUnit {
			return found, nil
		}
		if e.Tag == 0 {
			if depth--; depth < 0 || depth == 0 && len(found) > 0 {
				return found, nil
			}
			continue
		}
		enter := true
		switch e.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine, dwarf.TagLexDwarfBlock:
			if enter, err = l.contains(e, pc); err != nil {
				return nil, err
			}
			if enter && e.Tag != dwarf.TagLexDwarfBlock && len(found) < maxInlines {
				found = append(found, e)
			}
		case dwarf.TagNamespace, dwarf.TagModule, dwarf.TagClassType, dwarf.TagStructType:
		default:
			enter = false
		}
		switch {
		case !e.Children:
		case enter:
			depth++
		default:
			r.SkipChildren()
		}
	}
}

func (l *lines) contains(e *dwarf.Entry, pc uint64) (bool, error) {
	ranges, err := l.data.Ranges(e)
	if err != nil {
		return false, err
	}
	for _, r := range ranges {
		if r[0] <= pc && pc < r[1] {
			return true, nil
		}
	}
	return false, nil
}

// name is that of a function, or of what it is a copy of.
func (l *lines) name(e *dwarf.Entry) string {
	for range maxOrigins {
		for _, a := range []dwarf.Attr{dwarf.AttrLinkageName, dwarf.AttrName} {
			if s, ok := e.Val(a).(string); ok && s != "" {
				return s
			}
		}
		off, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
		if !ok {
			if off, ok = e.Val(dwarf.AttrSpecification).(dwarf.Offset); !ok {
				return ""
			}
		}
		r := l.data.Reader()
		r.Seek(off)
		next, err := r.Next()
		if err != nil || next == nil {
			return ""
		}
		e = next
	}
	return ""
}

// position looks pc up in a unit's line table. All rows are looked at: sequences are in no order.
func (l *lines) position(unit *dwarf.Entry, pc uint64) (file string, line int, files []*dwarf.LineFile, err error) {
	r, err := l.data.LineReader(unit)
	if err != nil || r == nil {
		return "", 0, nil, err
	}
	var last, row dwarf.LineEntry
	have := false
	for {
		if l.rows++; l.rows > maxRows {
			return "", 0, nil, errLines
		}
		if err := r.Next(&row); err != nil {
			if errors.Is(err, io.EOF) {
				return "", 0, r.Files(), nil
			}
			return "", 0, nil, err
		}
		if have && last.Address <= pc && pc < row.Address {
			if last.File != nil {
				file = last.File.Name
			}
			return file, last.Line, r.Files(), nil
		}
		last, have = row, !row.EndSequence
	}
}
