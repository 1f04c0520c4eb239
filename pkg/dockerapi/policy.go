package dockerapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// What a container may ask of the host depends on whose it is. The tenant default is the operator's; every other tenant is
// refused what reaches beyond its containers. It is the object's tenant that counts and not who made the call: whoever
// belongs to a tenant may exec into its containers, so a privileged one made for a tenant by the operator is as good as
// one that the tenant made. SECURITY.md has the table of all of this.

// ownsHost reports whether the tenant's containers may be given the host.
func ownsHost(t triton.Tenant) bool { return t == triton.DefaultTenant }

// tenantCapabilities may be added by a tenant: docker's fourteen, which a container has anyway.
var tenantCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// tenantSecurityOpts are the options of --security-opt that give nothing up, without their values.
var tenantSecurityOpts = []string{"no-new-privileges", "seccomp=builtin", "seccomp:builtin", "writable-cgroups=false"}

// firstTenantPort is the first port of the host that a tenant may name: those below are the host's own services'.
const firstTenantPort = 1024

// denials collects what a tenant is refused, so that all is said at once.
type denials []string

func (d *denials) deny(when bool, format string, args ...any) {
	if when {
		*d = append(*d, fmt.Sprintf(format, args...))
	}
}

// err is nil for no denial. Its text says who may.
func (d denials) err(t triton.Tenant) error {
	if len(d) == 0 {
		return nil
	}
	return &apiError{errdefs.ErrPermissionDenied, fmt.Sprintf("tenant %s may not use %s: only the operator's own containers may", t, strings.Join(d, "; "))}
}

// admitSpec refuses with 403 what would give the host away to a tenant, naming each field.
func admitSpec(t triton.Tenant, s *triton.Spec) error {
	if ownsHost(t) {
		return nil
	}
	var d denials
	d.deny(s.Privileged, "HostConfig.Privileged")
	for _, m := range []struct{ field, mode string }{
		{"NetworkMode", s.NetworkMode}, {"PidMode", s.PidMode}, {"IpcMode", s.IpcMode},
		{"UTSMode", s.UTSMode}, {"UsernsMode", s.UsernsMode}, {"CgroupnsMode", s.CgroupnsMode},
	} {
		d.deny(m.mode == triton.ModeHost, "HostConfig.%s host", m.field)
	}
	for _, name := range s.CapAdd {
		d.deny(!slices.Contains(tenantCapabilities, name), "HostConfig.CapAdd %s", name)
	}
	for _, opt := range s.SecurityOpt {
		d.deny(!tenantSecurityOpt(opt), "HostConfig.SecurityOpt %s", brief(opt))
	}
	d.deny(s.MaskedPaths != nil, "HostConfig.MaskedPaths")
	d.deny(s.ReadonlyPaths != nil, "HostConfig.ReadonlyPaths")
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Type == triton.MountVolume && m.Volume != nil {
			d.volume(m.Volume.Options)
		}
		d.deny(m.Type == triton.MountBind, "a bind of the host's path %s (HostConfig.Binds or Mounts)", brief(m.Source))
	}
	for _, dev := range s.Devices {
		d.deny(true, "HostConfig.Devices %s", brief(dev.HostPath))
	}
	for _, r := range s.DeviceRules {
		d.deny(true, "HostConfig.DeviceCgroupRules %s", deviceRuleText(r))
	}
	for _, l := range s.BlockLimits {
		d.deny(true, "a block I/O limit of the host's device %s", brief(l.Path))
	}
	for _, name := range sortedKeys(s.Sysctls) {
		d.deny(true, "HostConfig.Sysctls %s", brief(name))
	}
	for i := range s.Networks {
		d.membership(&s.Networks[i])
	}
	d.deny(s.OomScoreAdj < 0, "HostConfig.OomScoreAdj below 0")
	d.deny(s.Resources.OomKillDisable, "HostConfig.OomKillDisable")
	for _, u := range s.Ulimits {
		// Realtime threads keep everybody else off a core, and a user namespace does not stop these two limits.
		d.deny(u.Name == "rtprio" || u.Name == "nice", "HostConfig.Ulimits %s", u.Name)
	}
	for _, p := range s.Ports {
		d.deny(p.HostFirst != 0 && p.HostFirst < firstTenantPort, "HostConfig.PortBindings %d/%s: host ports below %d", p.HostFirst, p.Proto, firstTenantPort)
	}
	return d.err(t)
}

// membership denies settings of an interface that a tenant may not make with --sysctl either.
func (d *denials) membership(m *triton.Membership) {
	for _, text := range m.Sysctls {
		d.deny(true, "%s %s", endpointSysctls, brief(text))
	}
}

// admitMembership refuses a tenant what it may not have in a network that it joins.
func admitMembership(t triton.Tenant, m *triton.Membership) error {
	if ownsHost(t) {
		return nil
	}
	var d denials
	d.membership(m)
	return d.err(t)
}

// tenantTmpfsOptions are the options of a tmpfs that a tenant's volume may have.
var tenantTmpfsOptions = []string{"size", "nr_inodes", "nr_blocks", "mode", "uid", "gid", "noexec", "nosuid", "nodev", "noatime", "ro", "rw"}

// volume denies options that make a volume of more than memory: a device or path of the host, or an address.
func (d *denials) volume(opts map[string]string) {
	if len(opts) == 0 {
		return
	}
	d.deny(opts["type"] != "tmpfs", "a volume of type %s (driver option type)", brief(opts["type"]))
	for _, word := range strings.Split(opts["o"], ",") {
		name, _, _ := strings.Cut(word, "=")
		d.deny(word != "" && !slices.Contains(tenantTmpfsOptions, name), "a volume with the mount option %s (driver option o)", brief(word))
	}
}

// admitVolume refuses a tenant a volume that shows the host's files.
func admitVolume(t triton.Tenant, s *triton.VolumeSpec) error {
	if ownsHost(t) {
		return nil
	}
	var d denials
	d.volume(s.Options)
	return d.err(t)
}

// tenantSecurityOpt reports whether an option that mapSecurityOpt has accepted gives nothing up.
func tenantSecurityOpt(opt string) bool {
	return slices.ContainsFunc(tenantSecurityOpts, func(ok string) bool {
		// The value of no-new-privileges is a boolean, and false is the default.
		return opt == ok || ok == "no-new-privileges" && (strings.HasPrefix(opt, ok+"=") || strings.HasPrefix(opt, ok+":"))
	})
}

// admitExec refuses a tenant an exec with rights that its container has not.
func admitExec(t triton.Tenant, s *triton.ExecSpec) error {
	if ownsHost(t) {
		return nil
	}
	var d denials
	d.deny(s.Privileged, "Privileged")
	return d.err(t)
}

// privateRanges are the addresses that nobody on the internet has (RFC 1918, RFC 6598, RFC 4193).
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fc00::/7"),
}

// admitNetwork refuses a tenant a subnet of foreign addresses: the host gets a route to each subnet, so that what the host
// and all other containers send there would come to the tenant.
func admitNetwork(t triton.Tenant, s *triton.NetworkSpec) error {
	if ownsHost(t) {
		return nil
	}
	var d denials
	d.deny(s.Bridge != "", "the name of an interface of the host (Options: %s)", optBridge)
	subnets := []netip.Prefix{s.Subnet}
	if s.IPv6 != nil {
		subnets = append(subnets, s.IPv6.Subnet)
	}
	for _, subnet := range subnets {
		private := slices.ContainsFunc(privateRanges, func(p netip.Prefix) bool { return p.Bits() <= subnet.Bits() && p.Contains(subnet.Addr()) })
		d.deny(subnet.IsValid() && !private,
			"IPAM.Config.Subnet %s, which is not within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7", subnet)
	}
	return d.err(t)
}
