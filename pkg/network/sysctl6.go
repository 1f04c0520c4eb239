package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ip6Conf names a setting of an interface; "all" and "default" are such as well.
func ip6Conf(link, setting string) string { return "ipv6/conf/" + link + "/" + setting }

// minMTU6 is what every IPv6 link must carry (RFC 8200); the kernel speaks no IPv6 on one that does not.
const minMTU6 = 1280

// checkIPv6 asks whether there can be IPv6 in a network of this MTU. The error is of kind InvalidArgument.
func checkIPv6(mtu int) error {
	if mtu < minMTU6 {
		return fmt.Errorf("IPv6 is enabled for the network, but needs an MTU of %d, not %d: %w", minMTU6, mtu, errdefs.ErrInvalidArgument)
	}
	if _, err := os.Stat(filepath.Join(sysctlDir, ip6Conf("all", "forwarding"))); err != nil {
		return fmt.Errorf("IPv6 is enabled for the network, but the host's kernel has none: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// enableIPv6 makes an interface in this network namespace speak IPv6. Its addresses are those that it is given, and the
// link-local one made of its MAC (see linkLocal), which it has at once; what others on the link say of routers counts nothing.
func enableIPv6(link string) error {
	for _, s := range []struct{ setting, value string }{
		{"addr_gen_mode", "0"}, {"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"},
	} {
		if err := writeSysctl(ip6Conf(link, s.setting), s.value); err != nil {
			return err
		}
	}
	return nil
}

// The words of a record of forwarding6 in an alias.
const (
	wordForward6    = "ip6_forward"
	wordAcceptRA    = "accept_ra"
	wordForwarding6 = "forwarding6"
)

// forwarding6 is what turning on IPv6 forwarding, which was off, overwrites (addrconf_fixup_forwarding in net/ipv6/addrconf.c):
// the same switch of each interface. An interface that forwards also forgets the routes that routers have told it, and hears no
// more of them, unless it has accept_ra=2: those that have such a route get it, and the host keeps its way out.
type forwarding6 struct {
	interfaces []string // those with forwarding=1 though that of all is 0
	acceptRA   []string // those with accept_ra=1 that listen to a router
}

func (f *forwarding6) read(word, value string) {
	switch word {
	case wordAcceptRA:
		f.acceptRA = append(f.acceptRA, value)
	case wordForwarding6:
		f.interfaces = append(f.interfaces, value)
	}
}

// readForwarding6 returns nil where IPv6 is forwarded already.
func readForwarding6(h *netlink.Handle) (*forwarding6, error) {
	all, err := readSysctl(ip6Conf("all", "forwarding"))
	if err != nil || all != "0" {
		return nil, err
	}
	f := &forwarding6{}
	entries, err := os.ReadDir(filepath.Join(sysctlDir, "ipv6/conf"))
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "all" {
			continue
		}
		if on, err := readSysctl(ip6Conf(e.Name(), "forwarding")); err == nil && on == "1" {
			f.interfaces = append(f.interfaces, e.Name())
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		link, err := h.LinkByIndex(r.LinkIndex)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue // it has just gone
		}
		if err != nil {
			return nil, fmt.Errorf("look up an interface: %w", err)
		}
		name := link.Attrs().Name
		if v, err := readSysctl(ip6Conf(name, "accept_ra")); err == nil && v == "1" && !slices.Contains(f.acceptRA, name) {
			f.acceptRA = append(f.acceptRA, name)
		}
	}
	return f, nil
}

// turnOn turns forwarding on.
func (f *forwarding6) turnOn() error {
	for _, name := range f.acceptRA {
		if err := writeSysctlIfPresent(ip6Conf(name, "accept_ra"), "2"); err != nil {
			return err
		}
	}
	return writeSysctl(ip6Conf("all", "forwarding"), "1")
}

// restore turns forwarding off again, and writes back what f recorded.
func (f *forwarding6) restore() error {
	if err := writeSysctlIfPresent(ip6Conf("all", "forwarding"), "0"); err != nil {
		return err
	}
	for _, name := range f.interfaces {
		if err := writeSysctlIfPresent(ip6Conf(name, "forwarding"), "1"); err != nil {
			return err
		}
	}
	for _, name := range f.acceptRA {
		if err := writeSysctlIfPresent(ip6Conf(name, "accept_ra"), "1"); err != nil {
			return err
		}
	}
	return nil
}
