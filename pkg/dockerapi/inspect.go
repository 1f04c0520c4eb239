package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/tritond/triton/pkg/triton"
)

func (s *Server) inspectContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	ctr, err := s.Backend.InspectContainer(ctx, key)
	if err != nil {
		return err
	}
	resp := s.inspectOf(&ctr)
	if resp.HostConfig.Links, err = s.linksOf(ctx, &ctr); err != nil {
		return err
	}
	if c.query.bool("size") {
		images, err := s.Backend.ListImages(ctx, c.tenant)
		if err != nil {
			return err
		}
		rw, rootFs, err := s.sizes(ctx, &ctr, imageSizes(images))
		if err != nil {
			return err
		}
		resp.SizeRw, resp.SizeRootFs = &rw, &rootFs
	}
	return c.json(http.StatusOK, resp)
}

// inspectResponse is container.InspectResponse with what clients of API 1.51 and older expect and today's types have no
// longer. The outer fields hide the inner ones.
type inspectResponse struct {
	container.InspectResponse
	Config          legacyConfig
	NetworkSettings legacyNetwork
}

type legacyConfig struct {
	*container.Config
	OnBuild []string
}

type legacyNetwork struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  network.PortMap
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*network.EndpointSettings
}

func (s *Server) inspectOf(c *triton.Container) inspectResponse {
	argv := c.Spec.Argv()
	resp := inspectResponse{
		InspectResponse: container.InspectResponse{
			ID: c.Key.ID, Created: c.Created.UTC().Format(time.RFC3339Nano),
			State: stateOf(&c.State, c.Health), RestartCount: c.State.Restarts,
			Image: c.Spec.ImageID, Name: "/" + c.Name, Platform: "linux",
			Driver: s.StorageDriver, GraphDriver: &storage.DriverData{Name: s.StorageDriver},
			LogPath: c.LogPath, ExecIDs: c.ExecIDs,
			HostConfig: hostConfigOf(c), Mounts: mountPoints(c),
		},
		Config:          legacyConfig{Config: configOf(c)},
		NetworkSettings: inspectNetworkOf(c),
	}
	if len(argv) > 0 {
		resp.Path, resp.Args = argv[0], argv[1:]
	}
	resp.Args = nonNil(resp.Args)
	if c.DataDir != "" {
		resp.ResolvConfPath = filepath.Join(c.DataDir, "resolv.conf")
		resp.HostnamePath = filepath.Join(c.DataDir, "hostname")
		resp.HostsPath = filepath.Join(c.DataDir, "hosts")
	}
	return resp
}

func stateOf(st *triton.State, health *triton.Health) *container.State {
	return &container.State{
		Status:  container.ContainerState(st.Status),
		Running: countsAsRunning(st), Restarting: st.Status == triton.StatusRestarting,
		Paused: st.Status == triton.StatusPaused, Dead: st.Status == triton.StatusDead,
		Health: healthOf(health), OOMKilled: st.OOMKilled, Pid: st.Pid, ExitCode: st.ExitCode, Error: st.Error,
		StartedAt: st.StartedAt.UTC().Format(time.RFC3339Nano), FinishedAt: st.FinishedAt.UTC().Format(time.RFC3339Nano),
	}
}

func configOf(c *triton.Container) *container.Config {
	spec := &c.Spec
	cfg := &container.Config{
		Hostname: spec.Hostname, Domainname: spec.Domainname, User: spec.User,
		AttachStdin: spec.AttachStdin, AttachStdout: spec.AttachStdout, AttachStderr: spec.AttachStderr,
		Tty: spec.TTY, OpenStdin: spec.OpenStdin, StdinOnce: spec.StdinOnce,
		Env: nonNil(spec.Env), Cmd: spec.Cmd, Entrypoint: spec.Entrypoint, Image: spec.Image, WorkingDir: spec.WorkingDir,
		Labels: spec.Labels, StopSignal: spec.StopSignal, StopTimeout: spec.StopTimeout,
		NetworkDisabled: spec.NetworkDisabled,
	}
	cfg.Healthcheck, cfg.Shell = healthConfigOf(spec.Healthcheck), spec.Shell
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	if cfg.Hostname == "" && spec.UTSMode != triton.ModeHost && !strings.HasPrefix(spec.NetworkMode, triton.ContainerModePrefix) {
		cfg.Hostname = triton.ShortID(c.Key.ID)
	}
	for _, text := range spec.ExposedPorts {
		if port, err := network.ParsePort(text); err == nil {
			if cfg.ExposedPorts == nil {
				cfg.ExposedPorts = network.PortSet{}
			}
			cfg.ExposedPorts[port] = struct{}{}
		}
	}
	for _, target := range spec.Volumes {
		if cfg.Volumes == nil {
			cfg.Volumes = map[string]struct{}{}
		}
		cfg.Volumes[target] = struct{}{}
	}
	return cfg
}

// What docker's defaults are where a Spec says nothing.
const defaultShmSize = 64 << 20 // bytes

var (
	defaultMaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	defaultReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

func hostConfigOf(c *triton.Container) *container.HostConfig {
	spec := &c.Spec
	h := &container.HostConfig{
		LogConfig:   container.LogConfig{Type: or(spec.Log.Driver, triton.LogJSONFile), Config: spec.Log.Options},
		NetworkMode: container.NetworkMode(or(spec.NetworkMode, triton.ModeBridge)),
		PidMode:     container.PidMode(spec.PidMode), IpcMode: container.IpcMode(or(spec.IpcMode, triton.ModePrivate)),
		UTSMode: container.UTSMode(spec.UTSMode), UsernsMode: container.UsernsMode(spec.UsernsMode),
		CgroupnsMode: container.CgroupnsMode(or(spec.CgroupnsMode, triton.ModePrivate)),
		PortBindings: portBindingsOf(spec), PublishAllPorts: spec.PublishAll,
		RestartPolicy: container.RestartPolicy{
			Name:              container.RestartPolicyMode(or(spec.RestartPolicy.Name, triton.RestartNo)),
			MaximumRetryCount: spec.RestartPolicy.MaximumRetryCount,
		},
		AutoRemove: spec.AutoRemove, ContainerIDFile: spec.ContainerIDFile, ConsoleSize: spec.ConsoleSize,
		CapAdd: spec.CapAdd, CapDrop: spec.CapDrop, SecurityOpt: spec.SecurityOpt,
		DNS: []netip.Addr{}, DNSOptions: nonNil(spec.DNSOptions), DNSSearch: nonNil(spec.DNSSearch),
		ExtraHosts: spec.ExtraHosts, GroupAdd: spec.GroupAdd, OomScoreAdj: spec.OomScoreAdj,
		Privileged: spec.Privileged, ReadonlyRootfs: spec.ReadonlyRootfs,
		VolumesFrom: spec.VolumesFrom, ShmSize: spec.ShmSize, Sysctls: spec.Sysctls, Runtime: runtimeName,
		Annotations: spec.Annotations, Resources: resourcesOf(spec),
	}
	if spec.Init {
		h.Init = &spec.Init
	}
	if h.ShmSize == 0 {
		h.ShmSize = defaultShmSize
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if !spec.UserNamespace() {
		h.UsernsMode = triton.ModeHost // the user asked for what cannot have one: say so
	}
	for _, text := range spec.DNS {
		if addr, err := netip.ParseAddr(text); err == nil {
			h.DNS = append(h.DNS, addr)
		}
	}
	h.MaskedPaths, h.ReadonlyPaths = pathsOf(spec, spec.MaskedPaths, defaultMaskedPaths), pathsOf(spec, spec.ReadonlyPaths, defaultReadonlyPaths)
	addMounts(h, spec.Mounts)
	return h
}

func pathsOf(spec *triton.Spec, chosen *[]string, def []string) []string {
	switch {
	case chosen != nil:
		return *chosen
	case spec.Privileged:
		return nil
	}
	return def
}

// addMounts gives each mount back in the form it was asked for.
func addMounts(h *container.HostConfig, mounts []triton.Mount) {
	for i := range mounts {
		m := &mounts[i]
		var asked mount.Mount
		switch {
		case m.Inherited || m.Declared: // asked for by VolumesFrom or Config.Volumes
		case m.Asked != "" && json.Unmarshal([]byte(m.Asked), &asked) == nil:
			h.Mounts = append(h.Mounts, asked)
		case m.Type == triton.MountTmpfs:
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = strings.Join(m.Options, ",")
		case m.Bind != "":
			h.Binds = append(h.Binds, m.Bind)
		default:
			out := mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
			options := mount.BindOptions{
				Propagation: mount.Propagation(m.Propagation), NonRecursive: m.NonRecursive, CreateMountpoint: m.CreateSource,
				ReadOnlyNonRecursive: m.ReadOnlyTop, ReadOnlyForceRecursive: m.ReadOnlyAll,
			}
			if options != (mount.BindOptions{}) {
				out.BindOptions = &options
			}
			h.Mounts = append(h.Mounts, out)
		}
	}
}

func resourcesOf(spec *triton.Spec) container.Resources {
	r := &spec.Resources
	out := container.Resources{
		CPUShares: r.CPUShares, Memory: r.Memory, NanoCPUs: r.NanoCPUs, BlkioWeight: r.BlkioWeight,
		CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CpusetCpus: r.CpusetCPUs, CpusetMems: r.CpusetMems,
		Devices: []container.DeviceMapping{}, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
		OomKillDisable: &r.OomKillDisable, Ulimits: []*container.Ulimit{},
		MemorySwappiness: r.MemorySwappiness,
	}
	addBlockLimits(&out, spec.BlockLimits)
	for _, r := range spec.DeviceRules {
		out.DeviceCgroupRules = append(out.DeviceCgroupRules, deviceRuleText(r))
	}
	if r.PidsLimit > 0 {
		out.PidsLimit = &r.PidsLimit
	}
	for _, d := range spec.Devices {
		out.Devices = append(out.Devices, container.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.Permissions})
	}
	for _, u := range spec.Ulimits {
		out.Ulimits = append(out.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}

// mountPoints are the binds and volumes, as docker ps and inspect list them.
func mountPoints(c *triton.Container) []container.MountPoint {
	list := []container.MountPoint{}
	for i := range c.Spec.Mounts {
		m := &c.Spec.Mounts[i]
		mode := ""
		if parts := strings.Split(m.Bind, ":"); len(parts) == 3 {
			mode = parts[2]
		}
		switch m.Type {
		case triton.MountTmpfs:
			continue
		case triton.MountImage:
			list = append(list, container.MountPoint{
				Type: mount.TypeImage, Name: m.Source, Source: m.ImageID, Destination: m.Target, Propagation: mount.PropagationRPrivate,
			})
			continue
		case triton.MountVolume:
			if mode == "" && !m.Anonymous && !m.Inherited {
				mode = "z" // as docker has it, with SELinux or without
			}
			list = append(list, container.MountPoint{
				Type: mount.TypeVolume, Name: m.Source, Source: c.VolumeSources[m.Source], Destination: m.Target,
				Driver: triton.VolumeDriver, Mode: mode, RW: !m.ReadOnly,
			})
			continue
		}
		list = append(list, container.MountPoint{
			Type: mount.TypeBind, Source: m.Source, Destination: m.Target, Mode: mode, RW: !m.ReadOnly,
			Propagation: mount.Propagation(or(m.Propagation, string(mount.PropagationRPrivate))),
		})
	}
	return list
}
