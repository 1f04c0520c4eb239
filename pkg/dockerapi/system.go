package dockerapi

import (
	"context"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/tritond/triton/pkg/triton"
)

// ping is every client's first call: it negotiates by the headers. There is no Builder-Version: nothing builds here, and
// the CLI's answer to its absence is the same as to 2 (BuildKit, whose /grpc and /session say clearly what is missing).
func (s *Server) ping(_ context.Context, c *call) error {
	h := c.w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if c.r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := c.w.Write([]byte("OK"))
	return err
}

// options answers OPTIONS for any path, as docker does.
func (s *Server) options(_ context.Context, c *call) error {
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) listPlugins(_ context.Context, c *call) error {
	return c.json(http.StatusOK, []plugin.Plugin{})
}

// pruneBuilds answers what is true without a builder: its cache is empty. `docker system prune` asks for it last, and would
// fail otherwise.
func (s *Server) pruneBuilds(_ context.Context, c *call) error {
	if _, err := parseFilters(c.query.Get("filters"), "description", "id", "inuse", "parent", "private", "shared", "type", "unused-for", "until"); err != nil {
		return err
	}
	return c.json(http.StatusOK, build.CachePruneReport{CachesDeleted: []string{}})
}

func (s *Server) versionInfo(ctx context.Context, c *call) error {
	n, err := s.Backend.NodeInfo(ctx, c.tenant)
	if err != nil {
		return err
	}
	version := or(n.Version, s.Version)
	details := map[string]string{
		"ApiVersion": MaxAPIVersion, "MinAPIVersion": MinAPIVersion, "Arch": runtime.GOARCH, "Os": runtime.GOOS,
		"BuildTime": n.BuildTime, "GitCommit": n.Commit, "GoVersion": runtime.Version(), "KernelVersion": n.KernelVersion,
		"Experimental": "false",
	}
	components := []system.ComponentVersion{{Name: "Engine", Version: version, Details: details}}
	for _, part := range []struct{ name, version string }{{"containerd", n.ContainerdVersion}, {"runc", n.RuncVersion}} {
		if part.version != "" {
			components = append(components, system.ComponentVersion{Name: part.name, Version: part.version})
		}
	}
	return c.json(http.StatusOK, system.VersionResponse{
		Platform:   system.PlatformInfo{Name: "Triton"},
		Version:    version,
		APIVersion: MaxAPIVersion, MinAPIVersion: MinAPIVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH,
		Components: components,
		GitCommit:  n.Commit, GoVersion: runtime.Version(), KernelVersion: n.KernelVersion, BuildTime: n.BuildTime,
	})
}

// infoResponse adds to system.Info what clients below 1.50 expect and today's types have no longer.
type infoResponse struct {
	system.Info
	BridgeNfIptables  *bool `json:",omitempty"`
	BridgeNfIP6tables *bool `json:"BridgeNfIp6tables,omitempty"`
}

func (s *Server) info(ctx context.Context, c *call) error {
	n, err := s.Backend.NodeInfo(ctx, c.tenant)
	if err != nil {
		return err
	}
	resp := infoResponse{Info: s.infoOf(&n)}
	if c.version < 50 {
		off := false
		resp.BridgeNfIptables, resp.BridgeNfIP6tables = &off, &off
	}
	if c.version < 44 {
		resp.Runtimes = map[string]system.RuntimeWithStatus{runtimeName: {Runtime: system.Runtime{Path: "triton-shim"}}}
	}
	return c.json(http.StatusOK, resp)
}

// runtimeName is what clients know the one runtime by: it is runc's library.
const runtimeName = "runc"

func (s *Server) infoOf(n *triton.NodeInfo) system.Info {
	return system.Info{
		ID: n.ID, Name: n.Name,
		Containers: n.Running + n.Paused + n.Stopped, ContainersRunning: n.Running, ContainersPaused: n.Paused, ContainersStopped: n.Stopped,
		Images:       n.Images,
		Driver:       or(n.StorageDriver, s.StorageDriver),
		DriverStatus: [][2]string{},
		Plugins: system.PluginsInfo{
			Volume: []string{triton.VolumeDriver}, Network: []string{"bridge", "host", "null"},
			Authorization: nil, Log: []string{triton.LogJSONFile, triton.LogLocal, triton.LogNone},
		},
		MemoryLimit: n.MemoryLimit, SwapLimit: n.SwapLimit, CPUCfsPeriod: n.CPULimit, CPUCfsQuota: n.CPULimit, CPUShares: n.CPULimit,
		CPUSet: n.CPUSet, PidsLimit: n.PidsLimit,
		IPv4Forwarding: n.IPv4Forwarding, OomKillDisable: n.CgroupVersion == "1",
		NGoroutines:   runtime.NumGoroutine(),
		SystemTime:    or(timeText(n.SystemTime), s.Now().Format(time.RFC3339Nano)),
		LoggingDriver: triton.LogJSONFile, CgroupDriver: or(n.CgroupDriver, "cgroupfs"), CgroupVersion: n.CgroupVersion,
		KernelVersion: n.KernelVersion, OperatingSystem: n.OperatingSystem, OSVersion: n.OSVersion,
		OSType: runtime.GOOS, Architecture: n.Architecture,
		IndexServerAddress: "https://index.docker.io/v1/",
		RegistryConfig:     registriesOf(n),
		NCPU:               n.NCPU, MemTotal: n.MemTotal,
		DockerRootDir: n.DataRoot, Labels: nonNil(n.Labels), ServerVersion: or(n.Version, s.Version),
		Runtimes:       map[string]system.RuntimeWithStatus{runtimeName: {Runtime: system.Runtime{Path: "triton-shim"}}},
		DefaultRuntime: runtimeName, InitBinary: "docker-init",
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		// Containers outlive the daemon, always.
		LiveRestoreEnabled: true,
		Isolation:          container.IsolationEmpty,
		ContainerdCommit:   system.Commit{ID: n.ContainerdVersion}, RuncCommit: system.Commit{ID: n.RuncVersion},
		SecurityOptions: nonNil(n.SecurityOptions),
		CDISpecDirs:     []string{},
		Warnings:        n.Warnings,
	}
}

// registriesOf shows docker's own registry and those that need no certificate, hosts and networks apart.
func registriesOf(n *triton.NodeInfo) *registry.ServiceConfig {
	cfg := &registry.ServiceConfig{
		Mirrors:      []string{},
		IndexConfigs: map[string]*registry.IndexInfo{"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true}},
	}
	for _, r := range n.InsecureRegistries {
		if p, err := netip.ParsePrefix(r); err == nil {
			cfg.InsecureRegistryCIDRs = append(cfg.InsecureRegistryCIDRs, p)
			continue
		}
		cfg.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return cfg
}

// timeText is RFC 3339 as docker prints it, or "" for the zero time.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
