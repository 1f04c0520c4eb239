package coredump

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is listed of a process.
const (
	maxThreads = 4096
	maxFDs     = 4096
)

// describe reads what procfs says of a held process. What fails is named in r.Missing.
func (r *Record) describe(d *procDir, h *Head) {
	text := func(name string) string {
		b, err := d.read(name)
		if err != nil {
			r.Missing = append(r.Missing, err.Error())
		}
		return strings.ToValidUTF8(string(b), "�")
	}
	r.Comm = strings.TrimSuffix(text("comm"), "\n")
	r.Cmdline = strings.Split(strings.TrimSuffix(text("cmdline"), "\x00"), "\x00")
	r.Status, r.Limits, r.Maps = text("status"), text("limits"), text("maps")
	r.Exe, r.Cwd = d.link("exe"), d.link("cwd")
	r.NSPid = lastNumber(r.Status, "NSpid:")
	r.EnvNames = envNames(text("environ"))
	r.readThreads(d, h)
	r.readFiles(d, text)
}

// lastNumber returns the last number on the line of status that key begins. A program's name cannot forge one: the kernel
// escapes line ends in it.
func lastNumber(status, key string) int {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.Atoi(f[len(f)-1]) // the kernel wrote it
				return n
			}
		}
	}
	return 0
}

// envNames drops the values.
func envNames(environ string) []string {
	var names []string
	for _, kv := range strings.Split(environ, "\x00") {
		if name, _, ok := strings.Cut(kv, "="); ok && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readThreads joins the notes' threads, which carry the ids of the container's namespace, with procfs's.
func (r *Record) readThreads(d *procDir, h *Head) {
	type live struct{ comm, syscall string }
	byTID := map[int]live{}
	for _, host := range d.list("task", maxThreads) {
		if _, err := strconv.Atoi(host); err != nil {
			continue
		}
		dir := "task/" + host + "/"
		status, err := d.read(dir + "status")
		if err != nil {
			continue // listed and gone: a thread that was not part of the dump
		}
		comm, _ := d.read(dir + "comm")
		call, _ := d.read(dir + "syscall")
		byTID[lastNumber(string(status), "NSpid:")] = live{
			strings.ToValidUTF8(strings.TrimSpace(string(comm)), "�"), strings.TrimSpace(string(call)),
		}
	}
	for _, t := range h.Threads {
		l := byTID[t.TID]
		r.Threads = append(r.Threads, Thread{
			TID: t.TID, Comm: l.comm, Syscall: l.syscall, PC: t.Regs.PC, SP: t.Regs.SP, Regs: slices.Clone(t.Regs.All[:]),
		})
	}
}

func (r *Record) readFiles(d *procDir, text func(string) string) {
	byInode := map[string]string{}
	for _, fd := range d.list("fd", maxFDs) {
		target := strings.ToValidUTF8(d.link("fd/"+fd), "�")
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
			r.Sockets = append(r.Sockets, Socket{byInode[f[inode]], proto, address(f[local]), address(f[peer]), f[state]})
		}
	}
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
