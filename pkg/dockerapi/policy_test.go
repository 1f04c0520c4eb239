package dockerapi

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tritond/triton/pkg/triton"
)

// refusedToTenants are create requests that would give the host away, and what the refusal must name.
var refusedToTenants = []struct{ name, host, field string }{
	{"privileged", `"Privileged":true`, "HostConfig.Privileged"},
	{"network", `"NetworkMode":"host"`, "HostConfig.NetworkMode host"},
	{"pid", `"PidMode":"host"`, "HostConfig.PidMode host"},
	{"ipc", `"IpcMode":"host"`, "HostConfig.IpcMode host"},
	{"uts", `"UTSMode":"host"`, "HostConfig.UTSMode host"},
	{"userns", `"UsernsMode":"host"`, "HostConfig.UsernsMode host"},
	{"cgroupns", `"CgroupnsMode":"host"`, "HostConfig.CgroupnsMode host"},
	{"cap", `"CapAdd":["sys_admin"]`, "HostConfig.CapAdd CAP_SYS_ADMIN"},
	{"all caps", `"CapAdd":["ALL"]`, "HostConfig.CapAdd ALL"},
	{"cap as text", `"CapAdd":"NET_ADMIN"`, "HostConfig.CapAdd CAP_NET_ADMIN"},
	{"field in other letters", `"privileged":true`, "HostConfig.Privileged"},
	{"seccomp", `"SecurityOpt":["seccomp=unconfined"]`, `HostConfig.SecurityOpt "seccomp=unconfined"`},
	{"seccomp, old", `"SecurityOpt":["seccomp:unconfined"]`, `HostConfig.SecurityOpt "seccomp:unconfined"`},
	{"own seccomp profile", `"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]`, "HostConfig.SecurityOpt"},
	{"apparmor", `"SecurityOpt":["apparmor=unconfined"]`, "HostConfig.SecurityOpt"},
	{"label", `"SecurityOpt":["label=disable"]`, "HostConfig.SecurityOpt"},
	{"no masked paths", `"MaskedPaths":[]`, "HostConfig.MaskedPaths"},
	{"no read-only paths", `"ReadonlyPaths":[]`, "HostConfig.ReadonlyPaths"},
	{"bind", `"Binds":["/etc:/e:ro"]`, `"/etc"`},
	{"docker.sock", `"Binds":["/var/run/docker.sock:/var/run/docker.sock"]`, `"/var/run/docker.sock"`},
	{"mount", `"Mounts":[{"Type":"bind","Source":"/","Target":"/host"}]`, `"/"`},
	{"volume of the host's files", volumeMount(`"type":"none","o":"bind","device":"/etc"`), "a volume of type \"none\""},
	{"volume that binds", volumeMount(`"type":"tmpfs","o":"size=1m,bind","device":"/etc"`), "the mount option \"bind\""},
	{"volume of a server", volumeMount(`"type":"nfs","o":"addr=1.2.3.4","device":":/x"`), "a volume of type \"nfs\""},
	{"device", `"Devices":[{"PathOnHost":"/dev/kmsg"}]`, `HostConfig.Devices "/dev/kmsg"`},
	{"device rule", `"DeviceCgroupRules":["c 10:* rw"]`, "HostConfig.DeviceCgroupRules c 10:* rw"},
	{"device's weight", `"BlkioWeightDevice":[{"Path":"/dev/vda","Weight":500}]`, `"/dev/vda"`},
	{"device's speed", `"BlkioDeviceReadBps":[{"Path":"/dev/vda","Rate":500}]`, `"/dev/vda"`},
	{"sysctl", `"Sysctls":{"net.ipv4.ip_forward":"1"}`, `HostConfig.Sysctls "net.ipv4.ip_forward"`},
	{"oom score", `"OomScoreAdj":-500`, "HostConfig.OomScoreAdj"},
	{"oom kill", `"OomKillDisable":true`, "HostConfig.OomKillDisable"},
	{"realtime", `"Ulimits":[{"Name":"rtprio","Soft":99,"Hard":99}]`, "HostConfig.Ulimits rtprio"},
	{"nice", `"Ulimits":[{"Name":"nice","Soft":40,"Hard":40}]`, "HostConfig.Ulimits nice"},
	{"low port", `"PortBindings":{"80/tcp":[{"HostPort":"80"}]}`, "HostConfig.PortBindings 80/tcp"},
	{"low range", `"PortBindings":{"80/tcp":[{"HostPort":"1000-2000"}]}`, "HostConfig.PortBindings 1000/tcp"},
}

func volumeMount(options string) string {
	return `"Mounts":[{"Type":"volume","Source":"vol","Target":"/v","VolumeOptions":{"DriverConfig":{"Options":{` + options + `}}}}]`
}

func TestTenantIsRefusedTheHost(t *testing.T) {
	s := startServer(t)
	s.b.images["acme"] = []triton.Image{busyboxImage()}
	for _, tc := range refusedToTenants {
		body := `{"Image":"busybox","HostConfig":{` + tc.host + `}}`
		r := s.do(t, "POST", "/containers/create", body, "X-Tenant", "acme")
		if r.status != 403 || !strings.Contains(messageIn(r), tc.field) || !strings.Contains(messageIn(r), "tenant acme") {
			t.Errorf("%s: got %d %s, want 403 naming %s", tc.name, r.status, r.body, tc.field)
		}
		// The same request is good for the operator, or the refusal above would prove nothing.
		if r := s.do(t, "POST", "/containers/create", body); r.status != 201 {
			t.Errorf("%s: the operator got %d %s, want 201", tc.name, r.status, r.body)
		}
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for key := range s.b.containers {
		if key.Tenant == "acme" {
			t.Errorf("a refused container was made: %s", key)
		}
	}
}

func TestTenantIsToldAllRefusalsAtOnce(t *testing.T) {
	s := startServer(t)
	body := `{"Image":"busybox","HostConfig":{"Privileged":true,"PidMode":"host","Binds":["/:/host"]}}`
	s.do(t, "POST", "/containers/create", body, "X-Tenant", "acme").want(t, 403, "tenant acme may not use HostConfig.Privileged; "+
		`HostConfig.PidMode host; a bind of the host's path "/" (HostConfig.Binds or Mounts): only the operator's own containers may`)
}

func TestTenantMayUseWhatIsItsOwn(t *testing.T) {
	s := startServer(t)
	s.b.images["acme"] = []triton.Image{busyboxImage()}
	for _, host := range []string{
		``, `"CapAdd":["CHOWN","net_raw"],"CapDrop":["ALL"]`, `"SecurityOpt":["no-new-privileges","seccomp=builtin"]`,
		`"SecurityOpt":["no-new-privileges:true"]`, `"Tmpfs":{"/t":"size=1m"}`, `"NetworkMode":"none"`, `"IpcMode":"private"`,
		`"UsernsMode":"private"`, `"CgroupnsMode":"private"`, `"Memory":67108864,"PidsLimit":50,"OomScoreAdj":500`,
		`"Ulimits":[{"Name":"nofile","Soft":1024,"Hard":2048}]`, `"PortBindings":{"80/tcp":[{"HostPort":"8080"},{"HostPort":""}]}`,
		`"PublishAllPorts":true`, `"ReadonlyRootfs":true`,
	} {
		r := s.do(t, "POST", "/containers/create", `{"Image":"busybox","HostConfig":{`+host+`}}`, "X-Tenant", "acme")
		if r.status != 201 {
			t.Errorf("{%s}: got %d %s, want 201", host, r.status, r.body)
		}
	}
}

func TestTenantIsRefusedAPrivilegedExec(t *testing.T) {
	s := startServer(t)
	s.b.images["acme"] = []triton.Image{busyboxImage()}
	for tenant, want := range map[string]int{"acme": 403, string(triton.DefaultTenant): 201} {
		id := s.runningOf(t, tenant, "web")
		r := s.do(t, "POST", "/containers/"+id+"/exec", `{"Cmd":["true"],"Privileged":true}`, "X-Tenant", tenant)
		if r.status != want {
			t.Errorf("%s: got %d %s, want %d", tenant, r.status, r.body, want)
		}
	}
}

func TestTenantIsRefusedForeignSubnets(t *testing.T) {
	s := startServer(t)
	for subnet, want := range map[string]int{
		"8.8.8.0/24": 403, "172.0.0.0/8": 403, "11.0.0.0/16": 403, "127.0.0.0/24": 403, "169.254.0.0/16": 403,
		"10.9.0.0/24": 201, "172.31.0.0/16": 201, "192.168.7.0/24": 201, "100.64.1.0/24": 201,
		"2001:db8::/64": 403, "2000::/16": 403, "fd00:9::/64": 201,
	} {
		body := `{"Name":"n","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"` + subnet + `"}]}}`
		if r := s.do(t, "POST", "/networks/create", body, "X-Tenant", "acme"); r.status != want {
			t.Errorf("%s: got %d %s, want %d", subnet, r.status, r.body, want)
		}
	}
	named := `{"Name":"n","Options":{"` + optBridge + `":"br7"}}`
	if r := s.do(t, "POST", "/networks/create", named, "X-Tenant", "acme"); r.status != 403 {
		t.Errorf("a name of an interface: got %d %s, want 403", r.status, r.body)
	}
	if r := s.do(t, "POST", "/networks/create", named); r.status != 201 {
		t.Errorf("a name of an interface, by the operator: got %d %s, want 201", r.status, r.body)
	}
	if r := s.do(t, "POST", "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"8.8.8.0/24"}]}}`); r.status != 201 {
		t.Errorf("the operator: got %d %s, want 201", r.status, r.body)
	}
}

// TestEverySpecFieldIsJudged fails when a field is added to what a container can ask for and nobody said whether a
// tenant may have it.
func TestEverySpecFieldIsJudged(t *testing.T) {
	judged := map[reflect.Type]string{
		reflect.TypeFor[triton.Spec](): "Image ImageID Entrypoint Cmd Env WorkingDir User GroupAdd Hostname Domainname Labels StopSignal " +
			"StopTimeout ExposedPorts Ports PublishAll Networks BridgePriority BridgeMAC NetworkDisabled Links Volumes VolumesFrom Healthcheck Shell TTY ConsoleSize " +
			"OpenStdin StdinOnce AttachStdin AttachStdout AttachStderr AutoRemove ContainerIDFile Log NetworkMode PidMode IpcMode " +
			"UTSMode UsernsMode CgroupnsMode DNS DNSSearch DNSOptions ExtraHosts Privileged CapAdd CapDrop NoNewPrivileges Seccomp " +
			"SecurityOpt ReadonlyRootfs MaskedPaths ReadonlyPaths Mounts Devices DeviceRules BlockLimits Annotations Sysctls ShmSize Resources Ulimits OomScoreAdj RestartPolicy Init",
		reflect.TypeFor[triton.Resources](): "Memory MemoryReservation MemorySwap MemorySwappiness OomKillDisable NanoCPUs CPUShares CPUPeriod CPUQuota " +
			"CpusetCPUs CpusetMems PidsLimit BlkioWeight",
		reflect.TypeFor[triton.Mount](): "Type Source ImageID Target ReadOnly Propagation NonRecursive ReadOnlyTop ReadOnlyAll CreateSource Options Bind Asked " +
			"Anonymous NoCopy Subpath Volume Inherited Declared",
		reflect.TypeFor[triton.Membership]():  "Network Name Aliases Links Address Address6 MAC Priority Interface Sysctls",
		reflect.TypeFor[triton.VolumeSpec]():  "Options Labels",
		reflect.TypeFor[triton.ExecSpec]():    "Argv Env WorkingDir User TTY Privileged Stdin Stdout Stderr DetachKeys ConsoleSize",
		reflect.TypeFor[triton.NetworkSpec](): "Name Pool IPv6 MTU Internal Attachable NoICC NoMasquerade HostIP Bridge Options Labels",
		reflect.TypeFor[triton.Pool]():        "Subnet IPRange Gateway Aux Chosen",
	}
	for typ, names := range judged {
		known := strings.Fields(names)
		for i := range typ.NumField() {
			field := typ.Field(i).Name
			if !slices.Contains(known, field) {
				t.Errorf("%s.%s is new: does it reach beyond the tenant's containers (a path, device, port, namespace or setting of the host)? "+
					"Then refuse it in policy.go, with a row in refusedToTenants and in SECURITY.md. Add its name here in either case.", typ, field)
			}
		}
	}
}
