package backtrace

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	// signatureFrames is how many frames a signature is of: the innermost say what broke, the outer ones who asked for it.
	signatureFrames = 5
	// signatureLength is of signatures in hex digits.
	signatureLength = 12
)

// plumbing are functions that a crash goes through on its way from the bug to the signal.
var plumbing = regexp.MustCompile(`^(` + strings.Join([]string{
	`_*(GI_)*raise`, `gsignal`, `_*(GI_)*abort`, `_*pthread_kill(_implementation|_internal)?`, `_*(GI_)*(kill|tgkill)`, `__restore_rt`,
	`_*assert_(fail|perror_fail).*`, `_*(GI_)*_*libc_(fatal|message).*`, `malloc_printerr.*`, `_*stack_chk_fail.*`,
	`_*fortify_fail.*`, `_*chk_fail`, `__libc_assert.*`,
	`std::terminate`, `__gnu_cxx::__verbose_terminate_handler`, `__cxxabiv1::.*`, `__cxa_(throw|rethrow).*`,
	`runtime\.(raise|raiseproc|throw|fatal|fatalthrow|fatalpanic|dopanic_m|crash|dieFromSignal|gopanic|panic.*|sig.*|goPanic.*)(\.abi0)?`,
	`runtime\.(systemstack|asmcgocall|cgocall|tgkill|morestack|newstack|(fatalpanic|fatalthrow|throw|fatal)\.func\d+)(\.abi0)?`,
	`runtime\.sigreturn__sigaction(\.abi0)?`, `runtime/internal/.*`, `internal/runtime/.*`,
	`(core|std)::panicking::.*`, `_?rust_(begin_unwind|panic.*)`, `__rust_.*`, `std::sys::.*abort.*`, `std::process::abort`,
	// What calls main or a thread's function is the same for all bugs, and has other names in other libraries.
	`_start`, `_*libc_start_(main|call_main).*`, `start_thread`, `_*clone3?`, `runtime\.(goexit|main|mstart\d?|mcall|rt0_go)(\.abi0)?`,
	`core::result::unwrap_failed`, `core::option::(unwrap|expect)_failed`,
}, "|") + `)$`)

// rustHash is what the Rust compiler ends a name with: it changes with each build.
var rustHash = regexp.MustCompile(`::h[0-9a-f]{16}$`)

// signature is that of the thread that crashed.
func (x *analysis) signature(r *Result) Signature {
	s := Signature{Frames: []string{}}
	if len(r.Threads) == 0 {
		return s
	}
	frames := r.Threads[0].Frames
	exact := []string{x.p.Signal}
	for _, f := range frames {
		if len(exact) > signatureFrames {
			break
		}
		if f.Inline {
			continue
		}
		switch {
		case f.Module >= 0:
			m := r.Modules[f.Module]
			id := m.BuildID
			if id == "" {
				id = m.Path
			}
			exact = append(exact, fmt.Sprintf("%s+%#x", id, f.Offset))
		case f.Kind == KindJIT:
			exact = append(exact, string(KindJIT))
		default:
			exact = append(exact, "?")
		}
	}
	s.Exact = digest(exact)
	s.Frames = telling(frames)
	if len(s.Frames) == 0 {
		s.Fuzzy = s.Exact
		return s
	}
	s.Fuzzy = digest(append([]string{x.p.Signal}, s.Frames...))
	return s
}

// telling lists the first names that say what broke: none of the plumbing, and each once, however deep a recursion was.
func telling(frames []Frame) []string {
	names := []string{}
	// Below the first signal's trampoline is what was interrupted; above it is who handled the signal.
	if i := slices.IndexFunc(frames, func(f Frame) bool { return f.Kind == KindSignal }); i >= 0 && i < len(frames)-1 {
		frames = frames[i+1:]
	}
	for _, f := range frames {
		name := rustHash.ReplaceAllString(f.Func, "")
		name, _, _ = strings.Cut(name, "<")
		if name == "" || plumbing.MatchString(name) || slices.Contains(names, name) {
			continue
		}
		if names = append(names, name); len(names) == signatureFrames {
			break
		}
	}
	return names
}

func digest(parts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:])[:signatureLength]
}

// Top is the frame of the crashed thread that says most of where it broke: that of the first name in the signature, or
// else the innermost. nil: there is none.
func (r *Result) Top() *Frame {
	if len(r.Threads) == 0 || len(r.Threads[0].Frames) == 0 {
		return nil
	}
	frames := r.Threads[0].Frames
	if len(r.Signature.Frames) > 0 {
		for i, f := range frames {
			if n := telling([]Frame{f}); len(n) > 0 && n[0] == r.Signature.Frames[0] {
				return &frames[i]
			}
		}
	}
	return &frames[0]
}
