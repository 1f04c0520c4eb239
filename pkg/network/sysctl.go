package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Files below /proc/sys/net show the values of the network namespace of the thread that opens them.
const (
	sysctlDir       = "/proc/sys/net"
	ipForward       = "ipv4/ip_forward"
	acceptRedirects = "ipv4/conf/all/accept_redirects"
)

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctlDir, name))
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join(sysctlDir, name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
	}
	return nil
}

// writeSysctlIfPresent is for what a kernel may be built without, such as IPv6.
func writeSysctlIfPresent(name, value string) error {
	if err := writeSysctl(name, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// setInterface writes sysctls of an interface in a container's namespace, in docker's form: net.ipv4.conf.IFNAME.name=value.
func setInterface(ep triton.Endpoint, name string, sysctls []string) error {
	if len(sysctls) == 0 {
		return nil
	}
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	return inNetNS(ns, func() error {
		for _, text := range sysctls {
			key, value, _ := strings.Cut(text, "=")
			words := strings.Split(strings.TrimPrefix(key, "net."), ".")
			for i, w := range words {
				if w == "IFNAME" {
					words[i] = name
				}
			}
			if err := writeSysctl(strings.Join(words, "/"), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// forwarding is what turning on ip_forward overwrites (inet_forward_change in net/ipv4/devinet.c): the switch itself, the
// same switch of each interface, and whether redirects are accepted.
type forwarding struct {
	ipForward       string
	acceptRedirects string
	interfaces      []string // those with forwarding=1 though ip_forward=0; "default" may be among them

	ip6 *forwarding6 // nil: of IPv6 nothing was changed
}

// changed reports whether there is anything to restore.
func (f forwarding) changed() bool { return f.ipForward == "0" || f.ip6 != nil }

// over is what f and a record of another instance say together; what f says was so before.
func (f forwarding) over(theirs forwarding) forwarding {
	if f.ipForward != "0" && theirs.ipForward != "" {
		f.ipForward, f.acceptRedirects, f.interfaces = theirs.ipForward, theirs.acceptRedirects, theirs.interfaces
	}
	if f.ip6 == nil {
		f.ip6 = theirs.ip6
	}
	return f
}

func readForwarding() (forwarding, error) {
	var f forwarding
	var err error
	if f.ipForward, err = readSysctl(ipForward); err != nil {
		return f, err
	}
	if f.acceptRedirects, err = readSysctl(acceptRedirects); err != nil {
		return f, err
	}
	if f.ipForward != "0" {
		return f, nil
	}
	entries, err := os.ReadDir(filepath.Join(sysctlDir, "ipv4/conf"))
	if err != nil {
		return f, fmt.Errorf("list interfaces: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "all" {
			continue
		}
		if on, err := readSysctl("ipv4/conf/" + e.Name() + "/forwarding"); err == nil && on == "1" {
			f.interfaces = append(f.interfaces, e.Name())
		}
	}
	return f, nil
}

// restore writes back what f recorded.
func (f forwarding) restore() error {
	if f.ip6 != nil {
		if err := f.ip6.restore(); err != nil {
			return err
		}
	}
	if f.ipForward != "0" {
		return nil
	}
	if err := writeSysctl(ipForward, f.ipForward); err != nil {
		return err
	}
	if err := writeSysctl(acceptRedirects, f.acceptRedirects); err != nil {
		return err
	}
	for _, name := range f.interfaces {
		if err := writeSysctlIfPresent("ipv4/conf/"+name+"/forwarding", "1"); err != nil {
			return err
		}
	}
	return nil
}

// maxAlias is the longest text the kernel keeps in an interface's alias (IFALIASZ less the final zero).
const maxAlias = 255

// encode writes f for a bridge's alias. Interfaces that do not fit any more are returned as lost.
func (f forwarding) encode(prefix string) (alias string, lost []string) {
	alias = prefix + " ip_forward=" + f.ipForward + " accept_redirects=" + f.acceptRedirects
	add := func(key string, names []string) {
		for _, name := range names {
			word := " " + key + "=" + name
			if len(alias)+len(word) > maxAlias {
				lost = append(lost, name)
				continue
			}
			alias += word
		}
	}
	if f.ip6 != nil {
		alias += " " + wordForward6 + "=0"
		add(wordAcceptRA, f.ip6.acceptRA)
		add(wordForwarding6, f.ip6.interfaces)
	}
	add("forwarding", f.interfaces)
	return alias, lost
}

// decodeForwarding reads what encode wrote; false where alias does not start with prefix as a whole word, or holds no
// record that can be restored.
func decodeForwarding(prefix, alias string) (forwarding, bool) {
	words := strings.Fields(alias)
	if len(words) == 0 || words[0] != prefix {
		return forwarding{}, false
	}
	var f forwarding
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		if strings.Contains(value, "/") {
			return forwarding{}, false // no interface's name: it would lead to another file
		}
		switch name {
		case "ip_forward":
			f.ipForward = value
		case "accept_redirects":
			f.acceptRedirects = value
		case "forwarding":
			f.interfaces = append(f.interfaces, value)
		case wordForward6, wordAcceptRA, wordForwarding6:
			if f.ip6 == nil {
				f.ip6 = &forwarding6{}
			}
			f.ip6.read(name, value)
		}
	}
	return f, slices.Contains([]string{"0", "1"}, f.ipForward) && f.acceptRedirects != ""
}

// lockForwarding keeps other instances in this network namespace from changing ip_forward until unlock is called. The
// lock is on the sysctl's own file, of which each network namespace has one.
func lockForwarding() (unlock func(), err error) {
	f, err := os.Open(filepath.Join(sysctlDir, ipForward))
	if err != nil {
		return nil, fmt.Errorf("open sysctl: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock sysctl %s: %w", ipForward, err)
		}
	}
}
