package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/tritond/triton/pkg/network/resolver"
	"github.com/tritond/triton/pkg/triton"
)

// StartResolver makes containers in users' networks reach the embedded resolver. cgroupDir is the instance's directory in
// the unified hierarchy, pinDir a folder on a bpffs. It must be called before AddSegment. Without it, or where it fails,
// such containers have the host's resolvers and know no names of one another.
func (n *Network) StartResolver(cgroupDir, pinDir string) error {
	r, err := openRedirect(cgroupDir, pinDir)
	if err != nil {
		return fmt.Errorf("start the resolver: %w", err)
	}
	n.redirect, n.resolver = r, resolver.New(n.names, n.cfg.Log)
	return nil
}

// Resolves reports whether there is an embedded resolver.
func (n *Network) Resolves() bool { return n.redirect != nil }

// closeResolver stops serving. The redirection stays: the next daemon serves again.
func (n *Network) closeResolver() error {
	if n.redirect == nil {
		return nil
	}
	return errors.Join(n.resolver.Close(), n.redirect.Close())
}

// serveNames starts the resolver of a network.
func (n *Network) serveNames(s *segment) error {
	if n.redirect == nil {
		return nil
	}
	at, err := n.resolver.Listen(s.spec.Gateway)
	if err != nil {
		return err
	}
	s.names = at
	return nil
}

// PointResolver makes the container ask the resolver of the first of its networks that has one; none: it has no resolver.
func (n *Network) PointResolver(ctx context.Context, key triton.ContainerKey, ep triton.Endpoint, in []triton.Attachment) error {
	if err := ctx.Err(); err != nil || n.redirect == nil || ep.NetNS == "" {
		return err
	}
	var to netip.AddrPort
	for _, att := range in {
		if s, err := n.segmentOf(key.Tenant, att.Network); err == nil && s.names.IsValid() {
			to = s.names
			break
		}
	}
	ns, err := os.Open(ep.NetNS)
	if err != nil {
		return fmt.Errorf("open the namespace of slot %d: %w", ep.Slot, err)
	}
	defer ns.Close()
	return n.redirect.point(ns, to)
}
