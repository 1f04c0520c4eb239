package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// A reservation is a socket that is bound to a port of the host, so that no other process can take it. Packets never
// reach it: they are translated before.

// transport is a protocol of published ports.
type transport struct {
	socket, proto int
}

// transports by docker's names.
func transportOf(proto string) (transport, error) {
	switch proto {
	case triton.ProtoTCP:
		return transport{unix.SOCK_STREAM, unix.IPPROTO_TCP}, nil
	case triton.ProtoUDP:
		return transport{unix.SOCK_DGRAM, unix.IPPROTO_UDP}, nil
	case triton.ProtoSCTP:
		return transport{unix.SOCK_STREAM, unix.IPPROTO_SCTP}, nil
	}
	return transport{}, fmt.Errorf("protocol %q: must be tcp, udp or sctp: %w", proto, errdefs.ErrInvalidArgument)
}

// CheckProtocol reports whether the kernel can publish ports of a protocol. The error is of kind InvalidArgument.
func CheckProtocol(proto string) error {
	t, err := transportOf(proto)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, t.socket|unix.SOCK_CLOEXEC, t.proto)
	if err != nil {
		return fmt.Errorf("publish a port of %s: this kernel has no %s: %w: %w", proto, proto, err, errdefs.ErrInvalidArgument)
	}
	return unix.Close(fd)
}

// reserve binds a socket to a port of the host; port 0: to any free one. It returns the port that was bound.
func reserve(proto string, host netip.Addr, port uint16) (*os.File, uint16, error) {
	t, err := transportOf(proto)
	if err != nil {
		return nil, 0, err
	}
	family := unix.AF_INET
	if host.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, t.socket|unix.SOCK_CLOEXEC, t.proto)
	if err != nil {
		return nil, 0, fmt.Errorf("open a %s socket: %w", proto, err)
	}
	f := os.NewFile(uintptr(fd), fmt.Sprintf("%s %s", proto, netip.AddrPortFrom(host, port)))
	if t.socket == unix.SOCK_STREAM {
		// Connections of an earlier owner of the port that are in TIME_WAIT do not keep it taken then.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			f.Close()
			return nil, 0, fmt.Errorf("set up a %s socket: %w", proto, err)
		}
	}
	if host.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			f.Close()
			return nil, 0, fmt.Errorf("set up a %s socket: %w", proto, err)
		}
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(host, port))); err != nil {
		f.Close()
		return nil, 0, err
	}
	bound, err := boundTo(f)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, bound.Port(), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// boundTo is the address and port of a socket.
func boundTo(f *os.File) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("ask for the port of a socket: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("ask for the port of a socket: %T is not of IP", sa)
}

// seal makes a reserved port exclusive. It comes after the translation is in place: a client that connects in between is
// refused, and tries again, where a listening socket would keep it waiting for ever.
func seal(proto string, f *os.File) error {
	if proto == triton.ProtoUDP {
		return nil // binding it was enough
	}
	err := unix.Listen(int(f.Fd()), 0)
	if errors.Is(err, unix.EINVAL) {
		return nil // listens already: it was held over a restart
	}
	return err
}
