package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// leaveTime is how long the kernel may take to finish what it does behind our back: a veth goes with its network
// namespace, a cgroup with its last process, both asynchronously.
const leaveTime = 20 * time.Second

// collectTime is how long the machine's first process may take to collect processes that have ended. Those that a purge ends are
// its children: their parents end with them. Some look for orphans every other second, and later on a busy machine.
const collectTime = 30 * time.Second

// leftovers waits until nothing of the instance is left, and names what still is after leaveTime, or after collectTime.
func (d *Tritond) leftovers() error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		left, ended := d.left()
		if len(left)+len(ended) == 0 {
			return nil
		}
		if age := time.Since(began); len(left) > 0 && age > leaveTime || age > collectTime {
			return errors.New("left behind:\n  " + strings.Join(append(left, ended...), "\n  "))
		}
	}
}

// left names what is left, and the processes that have ended and whom nobody has collected yet.
func (d *Tritond) left() (left, ended []string) {
	for _, m := range Mounts(d.Root) {
		left = append(left, "mount "+m)
	}
	for _, c := range Cgroups(d.Cgroup()) {
		left = append(left, "cgroup "+c)
	}
	for _, pid := range Pids(d.owns) {
		state, err := StatusField(pid, "State")
		parent, perr := StatusField(pid, "PPid")
		switch {
		case err != nil || perr != nil: // gone by now
		case strings.HasPrefix(state, "Z") && parent == "1":
			ended = append(ended, fmt.Sprintf("process %d, which has ended, and which process 1 does not collect", pid))
		default:
			left = append(left, fmt.Sprintf("process %d (%s, child of %s) %s", pid, state, parent, Cmdline(pid)))
		}
	}
	if out, err := exec.Command("nft", "list", "tables").CombinedOutput(); err != nil {
		left = append(left, "nft list tables: "+err.Error())
	} else if strings.Contains(string(out), d.Cgroup()) {
		left = append(left, "nft table "+d.Cgroup())
	}
	for name := range d.links {
		if _, err := net.InterfaceByName(name); err == nil {
			left = append(left, "link "+name)
		}
	}
	// The data root is the user's: purge leaves it.
	if _, err := os.Lstat(d.RunRoot); err == nil {
		left = append(left, "folder "+d.RunRoot)
	}
	return left, ended
}

// rememberLinks notes the host's ends of all links of the instance while it can still be told that they are its: the
// bridge by its address, those of networks by their aliases, veths by the namespaces pinned in the run root. It is called before each purge. Links of a daemon
// in another network namespace are left to who made that.
func (d *Tritond) rememberLinks() {
	if len(d.Within) > 0 {
		return
	}
	_, subnet, err := net.ParseCIDR(d.Subnet)
	if err != nil {
		return
	}
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && subnet.Contains(n.IP) {
				d.links[i.Name] = true
			}
		}
	}
	for _, l := range whole(netlink.LinkList) {
		if strings.HasPrefix(l.Attrs().Alias, "triton-net/"+d.Instance+"/") {
			d.links[l.Attrs().Name] = true
		}
	}
	pins, _ := filepath.Glob(filepath.Join(d.RunRoot, "ns", "*", "net"))
	for _, pin := range pins {
		d.rememberPeers(pin)
	}
}

func (d *Tritond) rememberPeers(pin string) {
	ns, err := netns.GetFromPath(pin)
	if err != nil {
		return
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return
	}
	defer h.Close()
	for _, l := range whole(h.LinkList) {
		if l.Type() != "veth" {
			continue
		}
		if host, err := net.InterfaceByIndex(l.Attrs().ParentIndex); err == nil {
			d.links[host.Name] = true
		}
	}
}

// whole reads a list of links until no change has cut it short; at last with what there is.
func whole(list func() ([]netlink.Link, error)) (links []netlink.Link) {
	for range 20 {
		var err error
		if links, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return links
}

// Links returns how many host links are known to be the instance's now.
func (d *Tritond) Links() int {
	d.rememberLinks()
	n := 0
	for name := range d.links {
		if _, err := net.InterfaceByName(name); err == nil {
			n++
		}
	}
	return n
}

// containsPath reports whether a command line names root or something below it.
func containsPath(cmdline, root string) bool {
	return strings.Contains(cmdline+" ", root+"/") || strings.Contains(cmdline+" ", root+" ")
}
