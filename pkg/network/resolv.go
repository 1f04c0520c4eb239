package network

import (
	"net/netip"
	"slices"
	"strings"
)

// madeByUs begins a resolv.conf that nobody has changed.
const madeByUs = "# Made by Triton when the container starts.\n"

// embeddedResolver is where containers in users' networks ask for names, as in docker.
var embeddedResolver = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 11}), 53)

// publicResolvers answer where the host has no resolver that a container can reach, as in docker.
func publicResolvers() []string { return []string{"8.8.8.8", "8.8.4.4"} }

// resolvConf is the content of a resolv.conf (resolv.conf(5)). Lines that it has no field for are kept as they are.
type resolvConf struct {
	nameservers []string
	search      []string // a single "." stands for none
	options     []string
	other       []string
}

func parseResolv(data []byte) resolvConf {
	var c resolvConf
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		words := strings.Fields(line)
		switch words[0] {
		case "nameserver":
			if len(words) > 1 {
				c.nameservers = append(c.nameservers, words[1])
			}
		case "search", "domain": // the last one counts
			c.search = words[1:]
		case "options":
			c.options = append(c.options, words[1:]...)
		default:
			c.other = append(c.other, strings.Join(words, " "))
		}
	}
	return c
}

// keepReachable leaves out what a container with its own IPv4 network cannot reach: the host's loopback and IPv6.
func (c *resolvConf) keepReachable() {
	c.nameservers = slices.DeleteFunc(c.nameservers, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback() || !a.Unmap().Is4()
	})
	if len(c.nameservers) == 0 {
		c.nameservers = publicResolvers()
	}
}

func (c *resolvConf) bytes() []byte {
	var b strings.Builder
	b.WriteString(madeByUs)
	for _, s := range c.nameservers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(c.search) > 0 && !slices.Equal(c.search, []string{"."}) {
		b.WriteString("search " + strings.Join(c.search, " ") + "\n")
	}
	if len(c.options) > 0 {
		b.WriteString("options " + strings.Join(c.options, " ") + "\n")
	}
	for _, line := range c.other {
		b.WriteString(line + "\n")
	}
	return []byte(b.String())
}
