package network

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Relay is a published port of an address of IPv6 and what is to be done for it in user space: to take who comes to Socket
// to Target. Where a translation leads to the container, these are only those who come to ::1.
type Relay struct {
	Proto  string
	Host   netip.AddrPort
	Target netip.AddrPort // of either family; zero: nowhere, who comes is to be refused
	Socket *os.File       // stays the network's
}

// Relays are those of a container's published ports, as they were last led.
func (n *Network) Relays(key triton.ContainerKey) []Relay {
	n.ports.Lock()
	defer n.ports.Unlock()
	var all []Relay
	for _, p := range n.published[key] {
		if p.sock != nil && relays(p.Proto, p.HostIP) {
			all = append(all, Relay{Proto: p.Proto, Host: netip.AddrPortFrom(p.HostIP, p.HostPort), Target: p.relay, Socket: p.sock})
		}
	}
	return all
}

// relays reports whether ports of an address are served in user space, too. The kernel has no route_localnet of IPv6, and
// no translation from one family to the other.
func relays(proto string, host netip.Addr) bool { return host.Is6() && proto != triton.ProtoSCTP }

// relayed reports whether only a relay leads from an address of the host to the container.
func (t Target) relayed(proto string, host netip.Addr) bool {
	return relays(proto, host) && !t.Address6.IsValid() && t.Address.IsValid()
}

// aim leads a port to the container: by translation within its family, by relay else.
func (p *published) aim(target Target) {
	p.forward.target, p.relay = netip.AddrPort{}, netip.AddrPort{}
	addr, _ := target.of(p.HostIP)
	if addr.IsValid() && !(addr.Is6() && p.HostIP.IsLoopback()) {
		p.forward.target = netip.AddrPortFrom(addr, p.Port)
	}
	p.forward.relayed = target.relayed(p.Proto, p.HostIP) && !p.HostIP.IsLoopback()
	if !addr.IsValid() {
		addr = target.Address
	}
	if addr.IsValid() && relays(p.Proto, p.HostIP) {
		p.relay = netip.AddrPortFrom(addr, p.Port)
	}
}

// hostHasIPv6 asks whether the host can listen on addresses of IPv6. Where it cannot, ports that were asked for at no
// address are published by IPv4 alone.
func hostHasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}) == nil
}
