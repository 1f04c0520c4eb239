package telemetry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// inMemory are the kinds of signatures whose memory can be shown, in the order of enum how of bpf/trace.h, from 1.
const inMemory = "PANbB"

// Captures says which arguments of a system call are read from memory, at most two, in their order: a byte each, of which
// bits 0 to 2 are the argument's index, the others how (bpf/trace.h). 0: none.
func Captures(nr int) (captures uint16) {
	shift := 0
	for i, kind := range signatures[SyscallName(nr)] {
		if how := strings.IndexRune(inMemory, kind); how >= 0 && shift < 16 {
			captures |= uint16(i|(how+1)<<3) << shift
			shift += 8
		}
	}
	return captures
}

// PathArgument is the place, from 1, of the first argument of a system call that is a path; 0: none is.
func PathArgument(nr int) uint8 {
	return uint8(strings.IndexRune(signatures[SyscallName(nr)], 'P') + 1)
}

// MatchSyscalls returns the numbers of the system calls that a pattern (path.Match's: "open*") names. One that names none is
// errdefs.ErrInvalidArgument; no patterns are nil, which is all.
func MatchSyscalls(patterns []string) ([]int, error) {
	var numbers []int
	for _, p := range patterns {
		before := len(numbers)
		for nr, name := range syscallNames {
			hit, err := path.Match(p, name)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w: %w", p, err, errdefs.ErrInvalidArgument)
			}
			if hit && name != "" {
				numbers = append(numbers, nr)
			}
		}
		if len(numbers) == before {
			return nil, fmt.Errorf("no system call is named %q: %w", p, errdefs.ErrInvalidArgument)
		}
	}
	return numbers, nil
}

// readMost and shownMost are MEMORY and SHOWN of bpf/trace.h.
const readMost, shownMost = 256, 32

// formatMemory shows what an argument of a kind points to. What is cut ends with "...".
func formatMemory(kind rune, b []byte) string {
	switch kind {
	case 'P':
		s, _, _ := bytes.Cut(b, []byte{0})
		if len(b) >= readMost {
			return strconv.QuoteToASCII(string(s)) + "..."
		}
		return strconv.QuoteToASCII(string(s))
	case 'A', 'N':
		if text, err := formatAddress(b); err == nil {
			return text
		}
	}
	if len(b) >= shownMost {
		return strconv.QuoteToASCII(string(b)) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}

// formatAddress shows a socket's address: "10.0.0.1:80", "[::1]:80", "unix:/run/x", "unix:@abstract".
func formatAddress(b []byte) (string, error) {
	if len(b) < 2 {
		return "", errors.New("no family")
	}
	family := binary.NativeEndian.Uint16(b)
	switch {
	case family == unix.AF_UNIX && len(b) == 2:
		return "unix:", nil
	case family == unix.AF_UNIX && b[2] == 0:
		return "unix:@" + unquoted(b[3:]), nil
	case family == unix.AF_UNIX:
		name, _, _ := bytes.Cut(b[2:], []byte{0})
		return "unix:" + unquoted(name), nil
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])).String(), nil
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:])).String(), nil
	}
	return "", fmt.Errorf("family %d in %d bytes", family, len(b))
}

// unquoted is text with what is not printable escaped.
func unquoted(b []byte) string {
	s := strconv.QuoteToASCII(string(b))
	return s[1 : len(s)-1]
}

var (
	socketTypes = []string{unix.SOCK_STREAM: "SOCK_STREAM", unix.SOCK_DGRAM: "SOCK_DGRAM", unix.SOCK_RAW: "SOCK_RAW", unix.SOCK_SEQPACKET: "SOCK_SEQPACKET"}
	socketFlags = []bitName{{unix.SOCK_NONBLOCK, "SOCK_NONBLOCK"}, {unix.SOCK_CLOEXEC, "SOCK_CLOEXEC"}}
)
