package question

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// understand turns a comparison into a leaf; != is that of =.
func (p *parser) understand(name, operator, value token) (Leaf, error) {
	first, label, isLabel := strings.Cut(name.text, ":")
	l := Leaf{Field: Field(first), Name: label}
	if !slices.Contains(FieldsOf(p.q.Metric), l.Field) {
		return l, p.bad(name.at, "%s has no %q; there are %s", p.q.Metric, first, list(FieldsOf(p.q.Metric)))
	}
	if isLabel != (l.Field == Label) || isLabel && label == "" {
		return l, p.bad(name.at, "a label is compared as label:NAME=VALUE")
	}
	equality := operator.text == "=" || operator.text == "!="
	ordered := l.Field == Latency || l.Field == Bytes || l.Field == Port
	switch {
	case !equality && !ordered:
		return l, p.bad(operator.at, "%s is compared with = or !=", first)
	case equality && ordered && l.Field != Port:
		return l, p.bad(operator.at, "%s is compared with <, <=, > or >=", first)
	}
	if err := p.value(&l, value); err != nil {
		return l, err
	}
	if ordered && !equality {
		if err := l.bound(operator.text); err != "" {
			return l, p.bad(operator.at, "%s", err)
		}
	}
	return l, nil
}

// bound turns a number, which is Low, into all that are on its side.
func (l *Leaf) bound(operator string) (mistake string) {
	most := uint64(math.MaxUint64)
	if l.Field == Latency {
		most = LatencyMax
	}
	n := l.Low
	switch {
	case operator == "<" && n == 0:
		return "nothing is less than nothing"
	case operator == "<":
		l.Low, l.High = 0, n-1
	case operator == "<=":
		l.Low, l.High = 0, n
	case operator == ">":
		l.Low, l.High = n+1, most
	default:
		l.Low, l.High = n, most
	}
	return ""
}

// value understands what a field is compared with.
func (p *parser) value(l *Leaf, v token) (err error) {
	bad := func(format string, args ...any) error { return p.bad(v.at, format, args...) }
	number := func(n uint64, err error, what string) error {
		if err != nil {
			return bad("%s %s", quoted(v.text), what)
		}
		l.Low, l.High = n, n
		return nil
	}
	switch l.Field {
	case Container, Image, Label:
		l.Text = v.text
	case Comm:
		return p.text(l, v, CommMax)
	case Path:
		return p.text(l, v, PathMax)
	case Call:
		if l.Calls, err = p.names.Syscalls(v.text); err != nil {
			return bad("no system call is named %s", quoted(v.text))
		}
	case Errno:
		n, ok := errno(v.text)
		if !ok {
			return bad("no error is named %s; write its name, as ENOENT, its number, or 0 for none", quoted(v.text))
		}
		return number(n, nil, "")
	case Latency:
		d, err := time.ParseDuration(v.text)
		if err == nil && d < 0 {
			err = fmt.Errorf("negative")
		}
		return number(uint64(d), err, "is no time; write one as 5ms or 1.5s")
	case Device:
		n, err := p.names.Device(v.text)
		return number(n, err, "is no block device of this machine")
	case Op, Event:
		all := Operations
		if l.Field == Event {
			all = TCPEvents
		}
		n, ok := all[v.text]
		if !ok {
			return bad("%s is none of %s", quoted(v.text), list(slices.Sorted(maps.Keys(all))))
		}
		return number(n, nil, "")
	case Bytes:
		n, err := size(v.text)
		return number(n, err, "is no size; write one as 4096, 4k or 1M")
	case Port:
		n, err := strconv.ParseUint(v.text, 10, 16)
		return number(n, err, "is no port")
	case Remote:
		if l.Net, err = netip.ParsePrefix(v.text); err != nil {
			a, err := netip.ParseAddr(v.text)
			if err != nil || a.Zone() != "" {
				return bad("%s is no address; write one as 10.0.0.1, 10.0.0.0/8 or ::1", quoted(v.text))
			}
			l.Net = netip.PrefixFrom(a, a.BitLen())
		}
		l.Net = l.Net.Masked()
	}
	return nil
}

func quoted(s string) string { return strconv.QuoteToGraphic(s) }

// text takes a whole text, or with * at its end the beginning of one.
func (p *parser) text(l *Leaf, v token, most int) error {
	l.Text, l.Prefix = strings.CutSuffix(v.text, "*")
	if at := strings.IndexByte(l.Text, '*'); at >= 0 {
		return p.bad(v.at, "in a %s, * is understood at the end only", l.Field)
	}
	if len(l.Text) > most || strings.IndexByte(l.Text, 0) >= 0 {
		return p.bad(v.at, "a %s of more than %d bytes is not compared", l.Field, most)
	}
	return nil
}

// maxErrno is MAX_ERRNO of include/linux/err.h.
const maxErrno = 4095

// errno finds a number by its name.
func errno(name string) (uint64, bool) {
	if n, err := strconv.ParseUint(name, 10, 64); err == nil {
		return n, n <= maxErrno
	}
	for n := unix.Errno(1); n <= maxErrno; n++ {
		if name != "" && unix.ErrnoName(n) == name {
			return uint64(n), true
		}
	}
	return 0, false
}

// size reads a number of bytes with k, M or G after it.
func size(s string) (uint64, error) {
	shift := 0
	for suffix, by := range map[string]int{"k": 10, "M": 20, "G": 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, shift = rest, by
		}
	}
	n, err := strconv.ParseUint(s, 10, 64-30)
	return n << shift, err
}
