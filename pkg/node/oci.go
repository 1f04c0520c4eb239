package node

import (
	"path/filepath"
	"strings"

	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// ociInput gathers what the OCI configuration of a container depends on. layers are its files, topmost first.
func (n *Node) ociInput(c *container, rec *Record, layers []string) (runtime.Input, error) {
	in := runtime.Input{
		Key: c.key, Spec: &rec.Spec, IDs: rec.IDs, UserNS: rec.Endpoint.UserNS, NetNS: rec.Endpoint.NetNS,
		Rootfs: layers, CgroupPath: n.cgroupPath(c.key), Limits: n.cfg.Limits, Init: n.cfg.InitPath, Files: networkFiles(c.dataDir),
		Peers: map[string]runtime.Peer{},
	}
	if rec.Spec.IpcMode == triton.ModeShareable {
		in.Shm = n.shmDir(c.key)
	}
	for _, mode := range []string{rec.Spec.NetworkMode, rec.Spec.PidMode, rec.Spec.IpcMode} {
		id, ok := strings.CutPrefix(mode, triton.ContainerModePrefix)
		if !ok {
			continue
		}
		other, err := n.get(triton.ContainerKey{Tenant: c.key.Tenant, ID: id})
		if err != nil {
			return in, err
		}
		if peer, ok := n.peer(other); ok {
			in.Peers[id] = peer
		}
		if mode == rec.Spec.NetworkMode {
			in.Files = networkFiles(other.dataDir) // one network, one set of names
		}
	}
	return in, nil
}

// peer describes a running container to one that joins it; false: it does not run.
func (n *Node) peer(c *container) (runtime.Peer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := runtime.Peer{Pid: c.state.Pid, IDs: c.rec.IDs, UserNS: c.rec.Endpoint.UserNS}
	if c.rec.Spec.IpcMode == triton.ModeShareable {
		p.Shm = n.shmDir(c.key)
	}
	return p, c.running()
}

// networkFiles are the files in a container's data directory that tell it about its network.
func networkFiles(dataDir string) runtime.Files {
	return runtime.Files{
		Hosts:      filepath.Join(dataDir, "hosts"),
		Hostname:   filepath.Join(dataDir, "hostname"),
		ResolvConf: filepath.Join(dataDir, "resolv.conf"),
	}
}
