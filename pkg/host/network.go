package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func networking(_ context.Context, cfg Config) []Finding {
	const group = "network"
	var fs []Finding
	links, tables := inNamespace()
	fs = append(fs,
		grade(group, "bridge and veth", links, "one bridge, a pair of links per container", Missing, "containers cannot have an address"),
		grade(group, "nftables", tables, "a table of the instance's own", Missing, "no address translation, no isolation"),
		foreignForwarding())
	_, err := os.Stat("/proc/net/if_inet6")
	fs = append(fs, grade(group, "IPv6", err, "on this host", Fallback, "containers and published ports have IPv4 only"))
	for _, addr := range cfg.Listen {
		if !cfg.Running {
			fs = append(fs, free(addr))
		}
	}
	return fs
}

// inNamespace makes links and a table in a network namespace of its own, which ends with its thread.
func inNamespace() (links, tables error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			links, tables = err, err
			return
		}
		links, tables = tryLinks(), tryTable()
	}()
	<-done
	return links, tables
}

func tryLinks() error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "check0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "check1", MasterIndex: bridge.Index}, PeerName: "check2"}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	return nil
}

// tryTable makes the kinds of chains that the daemon's own table has.
func tryTable() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: "check", Family: nftables.TableFamilyINet})
	c.AddChain(&nftables.Chain{
		Name: "nat", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddChain(&nftables.Chain{
		Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	return c.Flush()
}

// foreignForwarding looks for another's chain that drops what it does not know: it also drops what containers send out.
func foreignForwarding() Finding {
	const group, name = "network", "rules of others"
	c, err := nftables.New()
	if err != nil {
		return Finding{group, name, Fallback, err.Error()}
	}
	chains, err := c.ListChains()
	if err != nil {
		return Finding{group, name, Fallback, fmt.Sprintf("cannot be read: %v", err)}
	}
	for _, ch := range chains {
		forward := ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Type == nftables.ChainTypeFilter
		if forward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop && !strings.HasPrefix(ch.Table.Name, "triton-") {
			return Finding{group, name, Fallback, fmt.Sprintf("chain %s of table %s drops forwarded packets: "+
				"containers reach nothing outside until it accepts those of our bridge", ch.Name, ch.Table.Name)}
		}
	}
	return Finding{group, name, OK, "none drops what is forwarded"}
}

// free tries to listen.
func free(addr string) Finding {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		l.Close()
		return Finding{"network", addr, OK, "free"}
	case errors.Is(err, unix.EADDRINUSE):
		return Finding{"network", addr, Missing, "in use: give another address"}
	}
	return Finding{"network", addr, Missing, err.Error()}
}
