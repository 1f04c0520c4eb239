package probes

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"

	"github.com/tritond/triton/bpf"
)

var datagramPrograms = map[string]ebpf.AttachType{
	bpf.PeersProgPeerDatagramsIn: ebpf.AttachCGroupInetIngress, bpf.PeersProgPeerDatagramsOut: ebpf.AttachCGroupInetEgress,
}

// WatchDatagrams counts the datagrams of UDP among what Peers tells, too. cgroupDir is the instance's directory in the unified
// hierarchy: what is outside is not seen. Once only; nothing happens where no peers are counted or the kernel refused the
// programs, which Missing tells.
func (p *Probes) WatchDatagrams(cgroupDir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("watch datagrams: probes are closed: %w", errdefs.ErrFailedPrecondition)
	}
	if p.peers == nil {
		return nil
	}
	return p.peers.watchDatagrams(cgroupDir)
}

func (k *peerPrograms) watchDatagrams(cgroupDir string) error {
	if k.datagrams != nil {
		return fmt.Errorf("watch datagrams: they are: %w", errdefs.ErrFailedPrecondition)
	}
	links := []link.Link{}
	for name, kind := range datagramPrograms {
		if k.programs[name] == nil {
			continue
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroupDir, Attach: kind, Program: k.programs[name]})
		if err != nil {
			return errors.Join(fmt.Errorf("attach %s to %s: %w", name, cgroupDir, err), closeLinks(links))
		}
		links = append(links, l)
	}
	k.datagrams = links
	return nil
}
