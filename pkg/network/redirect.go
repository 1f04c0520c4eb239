package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/bpf"
)

// redirect leads what containers send to 127.0.0.11:53 to the resolver of their network. Its programs are attached to the
// instance's cgroup and pinned with their map, so that they go on while no daemon lives.
type redirect struct {
	resolvers *ebpf.Map
	links     []link.Link
}

// openRedirect attaches the programs anew, and only then lets go of a killed daemon's: there is no moment without.
func openRedirect(cgroupDir, pinDir string) (*redirect, error) {
	if err := os.MkdirAll(pinDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of pins: %w", err)
	}
	spec, err := bpf.LoadResolver()
	if err != nil {
		return nil, fmt.Errorf("read the resolver's programs: %w", err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: pinDir}})
	if err != nil {
		return nil, fmt.Errorf("load the resolver's programs: %w", err)
	}
	defer coll.Close()
	r := &redirect{resolvers: coll.DetachMap(bpf.ResolverMapResolvers)}
	for name, kind := range map[string]ebpf.AttachType{
		bpf.ResolverProgResolverConnect: ebpf.AttachCGroupInet4Connect, bpf.ResolverProgResolverSendmsg: ebpf.AttachCGroupUDP4Sendmsg,
		bpf.ResolverProgResolverRecvmsg: ebpf.AttachCGroupUDP4Recvmsg, bpf.ResolverProgResolverGetpeername: ebpf.AttachCgroupInet4GetPeername,
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupDir, Attach: kind, Program: coll.Programs[name]})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s to %s: %w", name, cgroupDir, err), r.Close())
		}
		r.links = append(r.links, l)
		path := filepath.Join(pinDir, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("remove an older %s: %w", name, err), r.Close())
		}
		if err := l.Pin(path); err != nil {
			return nil, errors.Join(fmt.Errorf("pin %s: %w", name, err), r.Close())
		}
	}
	return r, nil
}

// Close lets go of the programs; pinned ones go on.
func (r *redirect) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, r.resolvers.Close())...)
}

// point makes to the resolver of the network namespace ns; the zero AddrPort: it has none.
func (r *redirect) point(ns *os.File, to netip.AddrPort) error {
	cookie, err := netnsCookie(ns)
	if err != nil {
		return err
	}
	if !to.IsValid() {
		if err := r.resolvers.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a resolver: %w", err)
		}
		return nil
	}
	// Both in network byte order, as the socket's address has them.
	ip := to.Addr().As4()
	var value [8]byte
	copy(value[:], ip[:])
	binary.BigEndian.PutUint16(value[4:], to.Port())
	if err := r.resolvers.Put(cookie, value); err != nil {
		return fmt.Errorf("set a resolver: %w", err)
	}
	return nil
}

// netnsCookie is the number by which BPF knows a network namespace; it is never used again.
func netnsCookie(ns *os.File) (cookie uint64, err error) {
	err = inNetNS(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket in %s: %w", ns.Name(), err)
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil {
			return fmt.Errorf("ask for the cookie of %s: %w", ns.Name(), err)
		}
		return nil
	})
	return cookie, err
}
