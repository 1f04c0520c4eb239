package coredump

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func (r *Record) readFiles(d *procDir, text func(string) string) {
	byInode := map[string]string{}
	for _, fd := range d.List("fd", maxFDs) {
		target := strings.ToValidUTF8(d.Link("fd/"+fd), "�")
		r.Files = append(r.Files, OpenFile{fd, target})
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			byInode[strings.TrimSuffix(inode, "]")] = fd
		}
	}
	slices.SortFunc(r.Files, func(a, b OpenFile) int {
		if len(a.FD) != len(b.FD) {
			return len(a.FD) - len(b.FD)
		}
		return strings.Compare(a.FD, b.FD)
	})
	if len(byInode) == 0 {
		return
	}
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for line := range strings.Lines(text("net/" + proto)) {
			f := strings.Fields(line)
			const local, peer, state, inode = 1, 2, 3, 9
			if len(f) <= inode || byInode[f[inode]] == "" {
				continue
			}
			r.Sockets = append(r.Sockets, Socket{byInode[f[inode]], proto, address(f[local]), address(f[peer]), stateName(f[state])})
		}
	}
	pairs, err := unixPairs(d)
	if err != nil {
		r.Missing = append(r.Missing, err.Error())
	}
	r.Sockets = append(r.Sockets, unixSockets(text("net/unix"), byInode, pairs)...)
}

// stateNames are the kernel's states of TCP, which other protocols use too.
var stateNames = [...]string{
	"", "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait", "closed", "close-wait", "last-ack", "listening", "closing",
}

func stateName(hex string) string {
	n, err := strconv.ParseUint(hex, 16, 8)
	if err != nil || n == 0 || int(n) >= len(stateNames) {
		return hex
	}
	return stateNames[n]
}

// unixSockets reads procfs's list: Num RefCount Protocol Flags Type St Inode Path. A path may have spaces; it is last.
func unixSockets(list string, byInode map[string]string, pairs map[string]string) []Socket {
	bound := map[string]string{}
	var out []Socket
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		const flags, kind, state, inode, path = 3, 4, 5, 6, 7
		if len(f) <= inode {
			continue
		}
		if len(f) > path {
			_, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "+f[inode]+" ")
			bound[f[inode]] = name
		}
		fd := byInode[f[inode]]
		if fd == "" {
			continue
		}
		const accepting = "00010000"
		s := Socket{FD: fd, Proto: "unix" + map[string]string{"0002": "-dgram", "0005": "-seqpacket"}[f[kind]], Local: bound[f[inode]], Peer: f[inode]}
		s.State = map[string]string{"01": "unconnected", "02": "connecting", "03": "established", "04": "disconnecting"}[f[state]]
		if f[flags] == accepting {
			s.State = "listening"
		}
		out = append(out, s)
	}
	for i := range out { // Peer is the own inode so far; names of peers may come later in the list
		peer := pairs[out[i].Peer]
		switch {
		case peer == "":
			out[i].Peer = ""
		case bound[peer] != "":
			out[i].Peer = bound[peer]
		default:
			out[i].Peer = "inode " + peer
		}
	}
	return out
}

// unixPairs asks the kernel which Unix sockets of the process's network namespace are connected, by inode.
func unixPairs(d *procDir) (map[string]string, error) {
	// The link is procfs's own: it leads to the namespace itself and to no file of the process.
	ns, err := unix.Openat(d.FD(), "ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network namespace of the process: %w", err)
	}
	handle, err := netlink.NewHandleAt(netns.NsHandle(ns), unix.NETLINK_SOCK_DIAG)
	err = errors.Join(err, unix.Close(ns))
	if err != nil {
		return nil, fmt.Errorf("peers of unix sockets: %w", err)
	}
	defer handle.Close()
	all, err := handle.UnixSocketDiagInfo()
	if err != nil {
		return nil, fmt.Errorf("peers of unix sockets: %w", err)
	}
	pairs := map[string]string{}
	for _, s := range all {
		if s.DiagMsg != nil && s.Peer != nil && *s.Peer != 0 {
			pairs[strconv.FormatUint(uint64(s.DiagMsg.INode), 10)] = strconv.FormatUint(uint64(*s.Peer), 10)
		}
	}
	return pairs, nil
}

// address turns procfs's form, words of the machine's order in hex and a port in hex, into the usual one.
func address(s string) string {
	host, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || len(host)%8 != 0 {
		return s
	}
	var raw []byte
	for ; host != ""; host = host[8:] {
		w, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return s
		}
		raw = append(raw, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return s
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)).String()
}
