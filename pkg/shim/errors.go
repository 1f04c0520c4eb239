package shim

import (
	"errors"
	"fmt"
	"strings"
)

// asError gives any error the form it travels in.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Kind: e.Kind, Message: err.Error()}
	}
	return &Error{Kind: KindInternal, Message: err.Error()}
}

// startError classifies what libcontainer says when a program cannot be run. Its init looks the program up before it
// reports success, and the error comes back as text only: exec.LookPath's, quoted behind `exec: `. The distinction is
// docker's (moby daemon/start.go, errors of containerd's start): not found is 127, not executable 126.
func startError(err error) error {
	text := err.Error()
	kind := KindInternal
	_, program, isExec := strings.Cut(text, `exec: "`)
	switch {
	case isExec && (strings.Contains(program, "executable file not found") || strings.Contains(program, "no such file or directory")):
		kind = KindExecNotFound
	case isExec && (strings.Contains(program, "permission denied") || strings.Contains(program, "is a directory") ||
		strings.Contains(program, "exec format error") || strings.Contains(program, "not a directory")):
		kind = KindNotExecutable
	case strings.Contains(text, "MOUNT_ATTR_IDMAP"): // libcontainer names the bind mount's path
		kind = KindUnsupported
	case strings.Contains(text, "chdir to cwd") && strings.Contains(text, "no such file or directory"):
		kind = KindExecNotFound
	case strings.Contains(text, "chdir to cwd") && (strings.Contains(text, "permission denied") || strings.Contains(text, "not a directory")):
		kind = KindNotExecutable
	}
	return &Error{Kind: kind, Message: text}
}

func invalid(format string, args ...any) error {
	return &Error{Kind: KindInvalid, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{Kind: KindConflict, Message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &Error{Kind: KindNotFound, Message: fmt.Sprintf(format, args...)}
}
