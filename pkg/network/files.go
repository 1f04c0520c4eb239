package network

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Names of the files that Files writes, and of the host's own ones.
const (
	HostsFile    = "hosts"
	HostnameFile = "hostname"
	ResolvFile   = "resolv.conf"

	hostHosts  = "/etc/hosts"
	hostResolv = "/etc/resolv.conf"
	// resolvedResolv has the true servers where hostResolv only names systemd-resolved's local one.
	resolvedResolv = "/run/systemd/resolve/resolv.conf"
	resolvedStub   = "127.0.0.53"
)

// hostGateway is the address in an extra host that stands for the bridge's.
const hostGateway = "host-gateway"

// Names says what a container's files of names hold besides what its Spec says.
type Names struct {
	Hostname, Domainname string
	Addresses            []netip.Addr // the container's own
	Hosts                []Host       // of linked containers
	Embedded             bool         // names are asked of the resolver at 127.0.0.11
	Owner                uint32       // the host's id of the container's root
}

// Host is a line of a hosts file.
type Host struct {
	Address netip.Addr
	Names   []string
}

// Files writes hosts, hostname and resolv.conf of a container into dir, as docker does: owned by the container's root,
// each replaced as a whole. A container in the host's network gets copies of the host's files, unless its spec says
// otherwise. Errors are of kind InvalidArgument for a bad address in spec, or where the files of another container are
// to be used.
func (n *Network) Files(dir string, names Names, spec *triton.Spec) error {
	if strings.HasPrefix(spec.NetworkMode, triton.ContainerModePrefix) {
		return fmt.Errorf("network files of %s are that container's: %w", spec.NetworkMode, errdefs.ErrInvalidArgument)
	}
	hosts, err := n.hosts(names, spec)
	if err != nil {
		return err
	}
	resolv, err := n.resolv(names.Embedded, spec)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{HostsFile, hosts}, {HostnameFile, []byte(names.Hostname + "\n")}, {ResolvFile, resolv}} {
		if err := writeFile(filepath.Join(dir, f.name), f.data, names.Owner); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces a file. owner is the host's id of the container's root.
func writeFile(path string, data []byte, owner uint32) error {
	tmp := path + ".new"
	err := os.WriteFile(tmp, data, 0o644)
	if err == nil {
		err = os.Chmod(tmp, 0o644) // whatever the umask is
	}
	if err == nil {
		err = os.Chown(tmp, int(owner), int(owner))
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write %s of a container: %w", filepath.Base(path), err)
	}
	return nil
}

// defaultHosts is what docker puts in every hosts file.
const defaultHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

func (n *Network) hosts(names Names, spec *triton.Spec) ([]byte, error) {
	if spec.NetworkMode == triton.ModeHost && len(spec.ExtraHosts) == 0 {
		data, err := readIfPresent(hostHosts)
		if err != nil || data != nil {
			return data, err
		}
	}
	var b strings.Builder
	b.WriteString(defaultHosts)
	for _, extra := range spec.ExtraHosts {
		name, addr, err := n.extraHost(extra)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
	}
	for _, h := range names.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.Address, strings.Join(h.Names, " "))
	}
	b.WriteString(names.ownLines())
	return []byte(b.String()), nil
}

// own is what the container itself is called.
func (n Names) own() string {
	if n.Domainname != "" && n.Hostname != "" {
		return n.Hostname + "." + n.Domainname + " " + n.Hostname
	}
	return n.Hostname
}

func (n Names) ownLines() string {
	var b strings.Builder
	if n.Hostname != "" {
		for _, a := range n.Addresses {
			fmt.Fprintf(&b, "%s\t%s\n", a, n.own())
		}
	}
	return b.String()
}

// maxNamesFile bounds what is read of a file that the container's root may have written.
const maxNamesFile = 1 << 20

// UpdateFiles tells a running container of its new addresses. The files are changed in place, since the container has
// them mounted; what its user wrote there stays: of hosts the lines of its own addresses are replaced, and resolv.conf
// only where it is still as Files wrote it.
func (n *Network) UpdateFiles(dir string, names Names, spec *triton.Spec) error {
	err := rewrite(filepath.Join(dir, HostsFile), func(old string) (string, error) {
		var b strings.Builder
		for line := range strings.Lines(old) {
			if _, rest, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t"); !ok || rest != names.own() {
				b.WriteString(line)
			}
		}
		return b.String() + names.ownLines(), nil
	})
	if err != nil {
		return err
	}
	return rewrite(filepath.Join(dir, ResolvFile), func(old string) (string, error) {
		if !strings.HasPrefix(old, madeByUs) {
			return old, nil
		}
		resolv, err := n.resolv(names.Embedded, spec)
		return string(resolv), err
	})
}

// UpdateLinks tells a running container where those that it links to are now, in place, as UpdateFiles does. Of a line that has
// the first two names of a link, as Files wrote it, the address is replaced; all else stays.
func (n *Network) UpdateLinks(dir string, links []Host) error {
	return rewrite(filepath.Join(dir, HostsFile), func(old string) (string, error) {
		var b strings.Builder
		for line := range strings.Lines(old) {
			b.WriteString(relinked(line, links))
		}
		return b.String(), nil
	})
}

// relinked is a line of a hosts file with the address that the link of these names has, if it is one's.
func relinked(line string, links []Host) string {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return line
	}
	addr, err := netip.ParseAddr(fields[0])
	if err != nil {
		return line
	}
	for _, l := range links {
		own := l.Names[:min(2, len(l.Names))] // a third may have been changed since: the container's name
		if addr.Is4() == l.Address.Is4() && slices.Equal(fields[1:min(1+len(own), len(fields))], own) {
			return strings.Replace(line, fields[0], l.Address.String(), 1)
		}
	}
	return line
}

// rewrite changes a file in place.
func rewrite(path string, change func(string) (string, error)) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open %s of a container: %w", filepath.Base(path), err)
	}
	defer f.Close()
	old, err := io.ReadAll(io.LimitReader(f, maxNamesFile+1))
	if err != nil {
		return fmt.Errorf("read %s of a container: %w", filepath.Base(path), err)
	}
	if len(old) > maxNamesFile {
		return fmt.Errorf("%s of a container has more than %d bytes: %w", filepath.Base(path), maxNamesFile, errdefs.ErrResourceExhausted)
	}
	text, err := change(string(old))
	if err != nil || text == string(old) {
		return err
	}
	if err := overwrite(f, string(old), text); err != nil {
		return fmt.Errorf("change %s of a container: %w", filepath.Base(path), err)
	}
	return nil
}

// overwrite puts text where old is. Who reads meanwhile, or after a kill between the two steps, finds empty lines at the end
// rather than pieces of old.
func overwrite(f *os.File, old, text string) error {
	shorter := max(0, len(old)-len(text))
	if _, err := f.WriteAt([]byte(text+strings.Repeat("\n", shorter)), 0); err != nil || shorter == 0 {
		return err
	}
	return f.Truncate(int64(len(text)))
}

// extraHost reads name:address; the address may be IPv6, bare or in brackets, or host-gateway.
func (n *Network) extraHost(s string) (name, addr string, err error) {
	name, addr, ok := strings.Cut(s, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t\r\n#") {
		return "", "", fmt.Errorf("extra host %q: must be name:address: %w", s, errdefs.ErrInvalidArgument)
	}
	if addr == hostGateway {
		return name, n.bridge.gateway.Addr().String(), nil
	}
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		addr = addr[1 : len(addr)-1]
	}
	if _, err := netip.ParseAddr(addr); err != nil {
		return "", "", fmt.Errorf("extra host %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
	}
	return name, addr, nil
}

func (n *Network) resolv(embedded bool, spec *triton.Spec) ([]byte, error) {
	changed := len(spec.DNS) > 0 || len(spec.DNSSearch) > 0 || len(spec.DNSOptions) > 0
	hostNet := spec.NetworkMode == triton.ModeHost
	data, err := hostResolvConf(hostNet)
	if err != nil {
		return nil, err
	}
	if hostNet && !changed {
		return data, nil
	}
	conf := parseResolv(data)
	switch {
	case len(spec.DNS) > 0:
		conf.nameservers = nil
		for _, s := range spec.DNS {
			if _, err := netip.ParseAddr(s); err != nil {
				return nil, fmt.Errorf("dns %q: %w: %w", s, err, errdefs.ErrInvalidArgument)
			}
			conf.nameservers = append(conf.nameservers, s)
		}
	case hostNet:
	case len(n.cfg.DNS) > 0:
		conf.nameservers = n.cfg.DNS
	default:
		conf.keepReachable()
	}
	if len(spec.DNSSearch) > 0 {
		conf.search = spec.DNSSearch
	}
	if len(spec.DNSOptions) > 0 {
		conf.options = spec.DNSOptions
	}
	if embedded {
		conf.nameservers = []string{embeddedResolver.Addr().String()}
		// Names of containers have no dots, and are not to be looked for in the search domains first.
		if !slices.ContainsFunc(conf.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			conf.options = append(slices.Clone(conf.options), "ndots:0")
		}
	}
	return conf.bytes(), nil
}

// hostResolvConf reads the host's file; for containers with a network of their own, the one with the true servers.
func hostResolvConf(hostNet bool) ([]byte, error) {
	data, err := readIfPresent(hostResolv)
	if err != nil || hostNet {
		return data, err
	}
	if ns := parseResolv(data).nameservers; len(ns) == 1 && ns[0] == resolvedStub {
		if real, err := readIfPresent(resolvedResolv); err == nil && real != nil {
			return real, nil
		}
	}
	return data, nil
}

func readIfPresent(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the host's %s: %w", filepath.Base(path), err)
	}
	return data, nil
}
