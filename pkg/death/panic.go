package death

import (
	"strconv"
	"strings"
)

// Bounds of what is kept of a panic: the text is the container's.
const (
	maxGoroutines   = 1000
	maxFrames       = 128 // of one goroutine; the runtime prints 100
	maxMessageLines = 16
	maxText         = 1024 // bytes of a line of the message, a state, a function's or a file's name
)

// Panic is what the Go runtime prints as it ends a program.
type Panic struct {
	Message    string      `json:"message"` // may have several lines
	Goroutines []Goroutine `json:"goroutines"`
	// Cut says that there were more goroutines, or frames of one, than are kept.
	Cut bool `json:"cut,omitempty"`
}

// Goroutine is one stack; its first frame is where it was.
type Goroutine struct {
	ID     uint64  `json:"id"`
	State  string  `json:"state"` // "running", "chan receive, 5 minutes"
	Frames []Frame `json:"frames"`
}

// Frame is one call. Its arguments are not kept.
type Frame struct {
	Func string `json:"func"` // "main.(*server).serve"
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Created: not a caller, but who started the goroutine.
	Created bool `json:"created,omitempty"`
}

// ParsePanic finds the last panic or fatal error of the Go runtime in a program's output, line by line without line ends;
// nil: there is none. The format is runtime/traceback.go's.
func ParsePanic(lines []string) *Panic {
	var found *Panic
	p := parser{}
	for _, line := range lines {
		line = strings.TrimSuffix(line, "\r") // a terminal's
		if begins(line) {
			p = parser{now: &Panic{Message: clip(line)}, inMessage: true, lines: 1}
			continue
		}
		p.line(line)
		if p.now != nil && len(p.now.Goroutines) > 0 {
			found = p.now
		}
	}
	return found
}

func begins(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || line == "SIGQUIT: quit"
}

// parser is within the text of one panic; now is nil outside of any.
type parser struct {
	now       *Panic
	inMessage bool
	lines     int        // of the message
	at        *Goroutine // whose frames come; nil: none is open
}

func (p *parser) line(line string) {
	if p.now == nil {
		return
	}
	if id, state, ok := header(line); ok {
		p.inMessage, p.at = false, nil
		if len(p.now.Goroutines) == maxGoroutines {
			p.now.Cut = true
			return
		}
		p.now.Goroutines = append(p.now.Goroutines, Goroutine{ID: id, State: state})
		p.at = &p.now.Goroutines[len(p.now.Goroutines)-1]
		return
	}
	switch {
	case line == "":
		p.inMessage, p.at = false, nil
	case p.inMessage:
		if p.lines++; p.lines <= maxMessageLines {
			p.now.Message += "\n" + clip(line)
		}
	case p.at != nil:
		p.frame(line)
	}
}

// frame takes a line of a stack: a call, or beneath it where that is.
func (p *parser) frame(line string) {
	if place, ok := strings.CutPrefix(line, "\t"); ok {
		if n := len(p.at.Frames); n > 0 && p.at.Frames[n-1].File == "" {
			p.at.Frames[n-1].File, p.at.Frames[n-1].Line = position(place)
		}
		return
	}
	f := Frame{}
	if by, ok := strings.CutPrefix(line, "created by "); ok {
		by, _, _ = strings.Cut(by, " in goroutine ")
		f.Func, f.Created = clip(by), true
	} else if i := strings.LastIndexByte(line, '('); i > 0 && strings.HasSuffix(line, ")") {
		f.Func = clip(line[:i])
	} else {
		p.now.Cut = p.now.Cut || strings.HasPrefix(line, "...")
		return
	}
	if len(p.at.Frames) == maxFrames {
		p.now.Cut = true
		return
	}
	p.at.Frames = append(p.at.Frames, f)
}

// header reads "goroutine 7 [chan receive, 5 minutes]:", with "gp=… m=… mp=…" before the bracket in newer Go.
func header(line string) (id uint64, state string, ok bool) {
	rest, ok := strings.CutPrefix(line, "goroutine ")
	if !ok || !strings.HasSuffix(rest, "]:") {
		return 0, "", false
	}
	before, state, ok := strings.Cut(strings.TrimSuffix(rest, "]:"), "[")
	number, _, _ := strings.Cut(before, " ")
	id, err := strconv.ParseUint(number, 10, 64)
	return id, clip(state), ok && err == nil
}

// position reads "/src/main.go:12 +0x1d".
func position(s string) (file string, line int) {
	if i := strings.LastIndex(s, " +0x"); i >= 0 {
		s = s[:i]
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return clip(s), 0
	}
	line, err := strconv.Atoi(s[i+1:])
	if err != nil || line < 0 {
		return clip(s), 0
	}
	return clip(s[:i]), line
}

// clip bounds a text, and what is not UTF-8 in it.
func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "�")
}
