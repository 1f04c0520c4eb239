package dockerapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/capability"

	"github.com/tritond/triton/pkg/triton"
)

func mapHost(spec *triton.Spec, h *container.HostConfig, version apiVersion) error {
	if err := mapLog(spec, h.LogConfig); err != nil {
		return err
	}
	spec.AutoRemove, spec.ContainerIDFile = h.AutoRemove, h.ContainerIDFile
	spec.Init = h.Init != nil && *h.Init
	var err error
	if spec.RestartPolicy, err = restartPolicy(h.RestartPolicy); err != nil {
		return err
	}
	if spec.AutoRemove && spec.RestartPolicy.Restarts() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	const consoleSizeSince = 42 // older daemons on Linux ignored it, and clients sent rubbish
	if version >= consoleSizeSince {
		spec.ConsoleSize = h.ConsoleSize
	}
	for _, addr := range h.DNS {
		if !addr.IsValid() {
			return invalid("HostConfig.Dns: an address is empty")
		}
		spec.DNS = append(spec.DNS, addr.String())
	}
	spec.DNSOptions, spec.DNSSearch = h.DNSOptions, h.DNSSearch
	for _, host := range h.ExtraHosts {
		if err := checkExtraHost(host); err != nil {
			return err
		}
	}
	spec.ExtraHosts = h.ExtraHosts
	spec.GroupAdd = h.GroupAdd
	if h.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	spec.ShmSize = h.ShmSize
	spec.Sysctls = h.Sysctls
	if _, ok := h.Annotations[""]; ok {
		return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
	}
	spec.Annotations = h.Annotations
	return nil
}

// restartPolicy checks a policy as docker does.
func restartPolicy(p container.RestartPolicy) (triton.RestartPolicy, error) {
	if err := container.ValidateRestartPolicy(p); err != nil {
		return triton.RestartPolicy{}, invalid("%v", err)
	}
	if p.Name == "" && p.MaximumRetryCount != 0 {
		return triton.RestartPolicy{}, invalid("HostConfig.RestartPolicy.MaximumRetryCount: %d without a policy has no meaning", p.MaximumRetryCount)
	}
	if p.IsNone() {
		return triton.RestartPolicy{}, nil
	}
	return triton.RestartPolicy{Name: string(p.Name), MaximumRetryCount: p.MaximumRetryCount}, nil
}

// checkExtraHost accepts name:address and name:host-gateway.
func checkExtraHost(host string) error {
	name, addr, ok := strings.Cut(host, ":")
	if !ok || name == "" {
		return invalid("bad format for add-host: %q", host)
	}
	if addr == "host-gateway" {
		return nil
	}
	if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
		return invalid("invalid IP address in add-host: %q", addr)
	}
	return nil
}

func mapLog(spec *triton.Spec, l container.LogConfig) error {
	spec.Log = triton.LogConfig{Driver: or(l.Type, triton.LogJSONFile)}
	if len(l.Config) > 0 {
		spec.Log.Options = l.Config
	}
	switch spec.Log.Driver {
	case triton.LogNone:
		return nil
	case triton.LogJSONFile:
	case triton.LogLocal:
		spec.Log.MaxSize, spec.Log.MaxFile, spec.Log.Compress = triton.LocalMaxSize, triton.LocalMaxFile, true
	default:
		return invalid("HostConfig.LogConfig.Type: log driver %q is not supported by this version of triton: json-file, local and none are", l.Type)
	}
	for _, name := range sortedKeys(l.Config) {
		value := l.Config[name]
		switch name {
		case "max-size":
			n, err := units.RAMInBytes(value)
			if err != nil || n <= 0 && value != "-1" {
				return invalid("HostConfig.LogConfig.Config: max-size: invalid size %q", value)
			}
			spec.Log.MaxSize = max(n, 0)
		case "max-file":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return invalid("HostConfig.LogConfig.Config: max-file cannot be less than 1: %q", value)
			}
			spec.Log.MaxFile = n
		case "compress":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return invalid("HostConfig.LogConfig.Config: compress: invalid value %q", value)
			}
			spec.Log.Compress = on
		case "mode":
			if value != "blocking" {
				return invalid("HostConfig.LogConfig.Config: mode %q is not supported by this version of triton: no line is ever dropped", value)
			}
		default:
			return invalid("HostConfig.LogConfig.Config: log opt %q is not supported by this version of triton", name)
		}
	}
	if _, asked := l.Config["compress"]; asked && spec.Log.Compress && (spec.Log.MaxFile < 2 || spec.Log.MaxSize <= 0) {
		return invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return nil
}

func mapSecurity(spec *triton.Spec, h *container.HostConfig) error {
	spec.Privileged = h.Privileged
	spec.ReadonlyRootfs = h.ReadonlyRootfs
	var err error
	if spec.CapAdd, err = capabilities("CapAdd", h.CapAdd); err != nil {
		return err
	}
	if spec.CapDrop, err = capabilities("CapDrop", h.CapDrop); err != nil {
		return err
	}
	if h.MaskedPaths != nil {
		spec.MaskedPaths = &h.MaskedPaths
	}
	if h.ReadonlyPaths != nil {
		spec.ReadonlyPaths = &h.ReadonlyPaths
	}
	spec.SecurityOpt = h.SecurityOpt
	for _, opt := range h.SecurityOpt {
		if err := mapSecurityOpt(spec, opt); err != nil {
			return err
		}
	}
	return nil
}

// capabilities gives names as the kernel has them, CAP_NET_ADMIN, or ALL.
func capabilities(field string, names []string) ([]string, error) {
	const all = "ALL"
	known := capability.ListKnown()
	var out []string
	for _, name := range names {
		upper := strings.ToUpper(name)
		if upper == all {
			out = append(out, all)
			continue
		}
		upper = "CAP_" + strings.TrimPrefix(upper, "CAP_")
		if !slices.ContainsFunc(known, func(c capability.Cap) bool { return "CAP_"+strings.ToUpper(c.String()) == upper }) {
			return nil, invalid("invalid %s: unknown capability: %q", field, name)
		}
		out = append(out, upper)
	}
	return out, nil
}

// mapSecurityOpt reads one --security-opt: name=value, name:value (old) or a bare name.
func mapSecurityOpt(spec *triton.Spec, opt string) error {
	name, value, ok := strings.Cut(opt, "=")
	if !ok {
		name, value, _ = strings.Cut(opt, ":")
	}
	switch name {
	case "no-new-privileges":
		on, err := strconv.ParseBool(or(value, "true"))
		if err != nil {
			return invalid("invalid --security-opt: %q", opt)
		}
		spec.NoNewPrivileges = on
		return nil
	case "seccomp":
		switch {
		case value == "builtin":
			value = ""
		case value == triton.SeccompUnconfined:
		case !strings.HasPrefix(strings.TrimSpace(value), "{"):
			return invalid("HostConfig.SecurityOpt: seccomp: want unconfined, builtin or a profile's JSON")
		default:
			if _, err := decodeTree([]byte(value)); err != nil {
				return invalid("HostConfig.SecurityOpt: seccomp profile: %v", err)
			}
		}
		spec.Seccomp = value
		return nil
	case "apparmor":
		if value == "unconfined" {
			return nil // as it is
		}
	case "label":
		if value == "disable" {
			return nil
		}
	case "disable":
		return nil
	case "writable-cgroups":
		if on, err := strconv.ParseBool(or(value, "true")); err == nil && !on {
			return nil
		}
	}
	return invalid("HostConfig.SecurityOpt: %q is not supported by this version of triton", opt)
}

func mapNamespaces(spec *triton.Spec, h *container.HostConfig, resolve containerResolver) error {
	mode := func(field, value string, container bool, allowed ...string) (string, error) {
		if ref, ok := strings.CutPrefix(value, triton.ContainerModePrefix); ok && container {
			if ref == "" {
				return "", invalid("HostConfig.%s: invalid mode %q: want container:<name|id>", field, value)
			}
			key, err := resolve(ref)
			if statusOf(err) == 404 && err != nil {
				// Not 404: the CLI takes a 404 of create for a missing image and pulls.
				return "", invalid("HostConfig.%s: %s", field, messageOf(err))
			}
			return triton.ContainerModePrefix + key.ID, err
		}
		if !slices.Contains(allowed, value) && (field != "NetworkMode" || !validNetworkName.MatchString(value)) {
			return "", invalid("HostConfig.%s: invalid mode %q: not a mode docker has", field, value)
		}
		return value, nil
	}
	network := string(h.NetworkMode)
	if network == "" || network == triton.ModeDefault {
		network = triton.ModeBridge
	}
	if spec.NetworkDisabled {
		network = triton.ModeNone
	}
	var err error
	for _, m := range []struct {
		to        *string
		field     string
		value     string
		container bool
		allowed   []string
	}{
		{&spec.NetworkMode, "NetworkMode", network, true, []string{triton.ModeBridge, triton.ModeNone, triton.ModeHost}},
		{&spec.PidMode, "PidMode", string(h.PidMode), true, []string{"", triton.ModeHost}},
		{&spec.IpcMode, "IpcMode", string(h.IpcMode), true, []string{"", triton.ModeNone, triton.ModePrivate, triton.ModeShareable, triton.ModeHost}},
		{&spec.UTSMode, "UTSMode", string(h.UTSMode), false, []string{"", triton.ModeHost}},
		{&spec.UsernsMode, "UsernsMode", string(h.UsernsMode), false, []string{"", triton.ModePrivate, triton.ModeHost}},
		{&spec.CgroupnsMode, "CgroupnsMode", string(h.CgroupnsMode), false, []string{"", triton.ModePrivate, triton.ModeHost}},
	} {
		if *m.to, err = mode(m.field, m.value, m.container, m.allowed...); err != nil {
			return err
		}
	}
	return nil
}

// checkNetworking refuses combinations that contradict each other, with docker's texts.
func checkNetworking(spec *triton.Spec) error {
	shared := strings.HasPrefix(spec.NetworkMode, triton.ContainerModePrefix)
	switch {
	case shared && spec.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case shared && len(spec.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case shared && len(spec.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case shared && (len(spec.Ports) > 0 || spec.PublishAll):
		return invalid("conflicting options: port publishing and the container type network mode")
	case shared && len(spec.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	case spec.UTSMode == triton.ModeHost && spec.Hostname != "":
		return invalid("conflicting options: hostname and the UTS mode")
	}
	return nil
}

func mapResources(spec *triton.Spec, h *container.HostConfig) error {
	if err := checkResources(h); err != nil {
		return err
	}
	r := &h.Resources
	spec.Resources = triton.Resources{
		Memory: r.Memory, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
		NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota,
		CpusetCPUs: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
	}
	if r.Memory > 0 && r.MemorySwap == 0 {
		spec.Resources.MemorySwap = 2 * r.Memory // docker's default
	}
	const asTheMachine = -1 // what older clients send
	if s := r.MemorySwappiness; s != nil && *s != asTheMachine {
		spec.Resources.MemorySwappiness = s
	}
	if r.OomKillDisable != nil {
		spec.Resources.OomKillDisable = *r.OomKillDisable
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		spec.Resources.PidsLimit = *r.PidsLimit
	}
	spec.OomScoreAdj = h.OomScoreAdj
	for _, u := range r.Ulimits {
		if u == nil {
			return invalid("HostConfig.Ulimits: null is not a limit")
		}
		if _, err := u.GetRlimit(); err != nil {
			return invalid("HostConfig.Ulimits: %v", err)
		}
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return invalid("HostConfig.Ulimits: %s: soft limit must be less than or equal to hard limit: %d > %d", u.Name, u.Soft, u.Hard)
		}
		spec.Ulimits = append(spec.Ulimits, triton.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return nil
}

func valueOf(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// checkResources has docker's limits of limits, and its texts.
func checkResources(h *container.HostConfig) error {
	const minMemory = 6 << 20
	bad := func(wrong bool, format string, args ...any) string {
		if !wrong {
			return ""
		}
		return fmt.Sprintf(format, args...)
	}
	r := &h.Resources
	for _, msg := range []string{
		bad(r.Memory != 0 && r.Memory < minMemory, "Minimum memory limit allowed is 6MB"),
		bad(r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory, "Minimum memoryswap limit should be larger than memory limit, see usage"),
		bad(r.Memory == 0 && r.MemorySwap > 0, "You should always set the Memory limit when using Memoryswap limit, see usage"),
		bad(r.MemorySwap < -1, "HostConfig.MemorySwap: %d is not a limit", r.MemorySwap),
		bad(r.MemoryReservation != 0 && r.MemoryReservation < minMemory, "Minimum memory reservation allowed is 6MB"),
		bad(r.Memory > 0 && r.MemoryReservation > r.Memory, "Minimum memory limit can not be less than memory reservation limit, see usage"),
		bad(r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100),
			"Invalid value: %d, valid memory swappiness range is 0-100", valueOf(r.MemorySwappiness)),
		bad(r.NanoCPUs < 0, "HostConfig.NanoCpus: %d is not a number of CPUs", r.NanoCPUs),
		bad(r.NanoCPUs > 0 && (r.CPUPeriod != 0 || r.CPUQuota != 0), "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set"),
		bad(r.CPUShares < 0, "invalid CPU shares (%d): value must be a positive integer", r.CPUShares),
		bad(r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1e6), "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
		bad(r.CPUQuota > 0 && r.CPUQuota < 1000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
		bad(r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000), "Range of blkio weight is from 10 to 1000"),
		bad(h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000, "Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj),
	} {
		if msg != "" {
			return invalid("%s", msg)
		}
	}
	return nil
}
