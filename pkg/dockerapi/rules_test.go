package dockerapi

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// fieldPaths lists the JSON paths of a type's fields, down to where table has a rule.
func fieldPaths(typ reflect.Type, path string, table ruleTable) []string {
	if _, ok := table[path]; ok {
		return []string{path}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return fieldPaths(typ.Elem(), path, table)
	case reflect.Slice, reflect.Array:
		if typ.Elem().Kind() == reflect.Struct || typ.Elem().Kind() == reflect.Pointer {
			return fieldPaths(typ.Elem(), path+"[]", table)
		}
	case reflect.Map:
		if typ.Elem().Kind() == reflect.Struct && typ.Elem().NumField() > 0 || typ.Elem().Kind() == reflect.Pointer {
			return fieldPaths(typ.Elem(), path+"{}", table)
		}
	case reflect.Struct:
		var all []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case f.Anonymous && name == "":
				all = append(all, fieldPaths(f.Type, path, table)...)
			case f.IsExported():
				all = append(all, fieldPaths(f.Type, join(path, or(name, f.Name)), table)...)
			}
		}
		return all
	}
	return []string{path}
}

func checkTableAgainstType(t *testing.T, table ruleTable, typ reflect.Type, olderOnly ...string) {
	t.Helper()
	inType := map[string]bool{}
	for _, path := range fieldPaths(typ, "", table) {
		inType[path] = true
		if _, ok := table[path]; !ok {
			t.Errorf("%s has no rule", path)
		}
	}
	for _, path := range olderOnly {
		inType[path] = true
	}
	for path := range table {
		if !inType[path] {
			t.Errorf("the rule for %s is for no field", path)
		}
	}
}

func TestEveryFieldOfABodyHasARule(t *testing.T) {
	checkTableAgainstType(t, createRules(), reflect.TypeFor[container.CreateRequest](),
		"name", "platform", "MacAddress", "HostConfig.KernelMemory", "HostConfig.KernelMemoryTCP")
	checkTableAgainstType(t, updateRules(), reflect.TypeFor[container.UpdateConfig](), "KernelMemory", "KernelMemoryTCP")
	checkTableAgainstType(t, commitRules(), reflect.TypeFor[container.Config](),
		"MacAddress", "container", "repo", "tag", "comment", "author", "pause", "changes")
	checkTableAgainstType(t, execRules(), reflect.TypeFor[container.ExecCreateRequest](), "Detach")
	for path, r := range createRules() {
		if r.kind == harmless && r.why == "" {
			t.Errorf("%s is harmless without a reason", path)
		}
	}
}

// examples has a value for each mapped field. A member of a list's elements stands in a whole element.
var examples = map[string]string{
	"Hostname": `"h"`, "Domainname": `"d"`, "User": `"1:2"`, "AttachStdin": `true`, "AttachStdout": `true`, "AttachStderr": `true`,
	"ExposedPorts": `{"80/tcp":{}}`, "Tty": `true`, "OpenStdin": `true`, "StdinOnce": `true`, "Env": `["A=b"]`, "Cmd": `["c"]`,
	"Image": `"other"`, "WorkingDir": `"/w"`, "Entrypoint": `["e"]`, "Labels": `{"a":"b"}`, "StopSignal": `"SIGINT"`, "StopTimeout": `3`,
	"HostConfig.Binds": `["/a:/b:ro,z"]`, "HostConfig.LogConfig.Type": `"none"`, "HostConfig.LogConfig.Config": `{"max-size":"1m"}`,
	"HostConfig.NetworkMode": `"none"`, "HostConfig.AutoRemove": `true`, "HostConfig.ContainerIDFile": `"/tmp/id"`, "HostConfig.ConsoleSize": `[1,2]`, "HostConfig.CapAdd": `["NET_ADMIN"]`,
	"HostConfig.CapDrop": `["all"]`, "HostConfig.CgroupnsMode": `"host"`, "HostConfig.Dns": `["1.1.1.1"]`, "HostConfig.DnsOptions": `["o"]`,
	"HostConfig.DnsSearch": `["s"]`, "HostConfig.ExtraHosts": `["a:1.2.3.4"]`, "HostConfig.GroupAdd": `["g"]`, "HostConfig.IpcMode": `"host"`,
	"HostConfig.OomScoreAdj": `5`, "HostConfig.PidMode": `"host"`, "HostConfig.Privileged": `true`, "HostConfig.ReadonlyRootfs": `true`,
	"HostConfig.SecurityOpt": `["no-new-privileges"]`, "HostConfig.Tmpfs": `{"/t":"size=1m"}`, "HostConfig.UTSMode": `"host"`,
	"HostConfig.UsernsMode": `"host"`, "HostConfig.ShmSize": `1`, "HostConfig.Sysctls": `{"net.a":"1"}`, "HostConfig.MaskedPaths": `[]`,
	"HostConfig.ReadonlyPaths": `["/p"]`, "HostConfig.CpuShares": `2`, "HostConfig.Memory": `8388608`, "HostConfig.NanoCpus": `1`,
	"HostConfig.BlkioWeight": `10`, "HostConfig.CpuPeriod": `1000`, "HostConfig.CpuQuota": `1000`, "HostConfig.CpusetCpus": `"0"`,
	"HostConfig.CpusetMems": `"0"`, "HostConfig.MemoryReservation": `8388608`, "HostConfig.MemorySwap": `-1`, "HostConfig.OomKillDisable": `true`,
	"HostConfig.PidsLimit": `7`, "HostConfig.PortBindings": `{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8000-8010"}]}`,
	"HostConfig.PublishAllPorts": `true`, "HostConfig.Links": `["db:d"]`,
	"Shell": `["bash","-c"]`, "Healthcheck.Test": `["CMD","t"]`, "Healthcheck.Interval": `1000000`, "Healthcheck.Timeout": `1000000`,
	"Healthcheck.StartPeriod": `1000000`, "Healthcheck.StartInterval": `1000000`, "Healthcheck.Retries": `2`,
	"HostConfig.Init": `true`, "HostConfig.RestartPolicy.Name": `"unless-stopped"`, "HostConfig.RestartPolicy.MaximumRetryCount": `3,"Name":"on-failure"`,
	"NetworkingConfig.EndpointsConfig{}": `{"IPAMConfig":{"IPv4Address":"10.1.1.1","IPv6Address":"fd00::9"},"Links":["db:d"],"Aliases":["a"],"GwPriority":3,"MacAddress":"02:00:00:00:00:01",` +
		`"DriverOpts":{"com.docker.network.endpoint.ifname":"lan0"}}`,
	"HostConfig.Devices[]":           `{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"r"}`,
	"HostConfig.BlkioWeightDevice[]": `{"Path":"/dev/a","Weight":20}`, "HostConfig.BlkioDeviceReadBps[]": `{"Path":"/dev/a","Rate":1}`,
	"HostConfig.BlkioDeviceWriteBps[]": `{"Path":"/dev/a","Rate":1}`, "HostConfig.BlkioDeviceReadIOps[]": `{"Path":"/dev/a","Rate":1}`,
	"HostConfig.BlkioDeviceWriteIOps[]": `{"Path":"/dev/a","Rate":1}`, "HostConfig.DeviceCgroupRules": `["c 10:* rw"]`,
	"HostConfig.Annotations": `{"a":"b"}`, "HostConfig.MemorySwappiness": `0`, "NetworkDisabled": `true`, "MacAddress": `"02:00:00:00:00:07","Image":"i"`,
	"HostConfig.Ulimits[]": `{"Name":"nofile","Soft":1,"Hard":2}`,
	"HostConfig.Mounts[]": `{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,
		"BindOptions":{"Propagation":"rshared","NonRecursive":true,"CreateMountpoint":true,"ReadOnlyNonRecursive":true}}`,
	"HostConfig.Mounts[].Forced": `{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}`,
	"HostConfig.Mounts[].Tmpfs":  `{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":5,"Mode":511,"Options":[["noexec"]]}}`,
	"HostConfig.Mounts[].Volume": `{"Type":"volume","Source":"a","Target":"/b","ReadOnly":true,
		"VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"Subpath":"s","DriverConfig":{"Name":"local","Options":{"type":"tmpfs"}}}}`,
	"Volumes": `{"/v":{}}`, "HostConfig.VolumesFrom": `["other:ro"]`,
	"HostConfig.Mounts[].CreateMP": `{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"CreateMountpoint":true}}`,
}

// bodyWith is a create body with one field set.
func bodyWith(path, value string) string {
	body := value
	parts := strings.Split(strings.Split(strings.Split(path, "[]")[0], "{}")[0], ".")
	if strings.Contains(path, "[]") {
		body = "[" + value + "]"
	}
	if strings.Contains(path, "{}") {
		body = `{"mine":` + value + "}"
	}
	for i := len(parts) - 1; i >= 0; i-- {
		body = fmt.Sprintf(`{%q:%s}`, parts[i], body)
	}
	if len(parts) > 1 {
		body = strings.Replace(body, "{", `{"Image":"i",`, 1)
	}
	return body
}

func specFrom(t *testing.T, body string) (triton.Spec, error) {
	t.Helper()
	req, err := decodeCreate([]byte(body), buildRules(createRules()))
	if err != nil {
		return triton.Spec{}, err
	}
	return specOf(req, maxVersion, func(ref string) (triton.ContainerKey, error) {
		if ref == "nosuch" {
			return triton.ContainerKey{}, notFound("No such container: %s", ref)
		}
		return triton.ContainerKey{Tenant: "default", ID: "full-id-of-" + ref}, nil
	})
}

func TestEveryMappedFieldArrives(t *testing.T) {
	base, err := specFrom(t, `{"Image":"i"}`)
	if err != nil {
		t.Fatal(err)
	}
	for path, r := range createRules() {
		if r.kind != mapped {
			continue
		}
		at := path
		if i := max(strings.Index(path, "[]"), strings.Index(path, "{}")); i >= 0 {
			at = path[:i+2]
			member := path[strings.LastIndex(path, ".")+1:]
			if !strings.Contains(examples[at]+examples[at+".Tmpfs"]+examples[at+".Volume"]+examples[at+".Forced"], `"`+member+`"`) {
				t.Errorf("%s is mapped and in no example", path)
			}
		}
		value, ok := examples[at]
		if !ok {
			t.Errorf("%s is mapped and has no example", path)
			continue
		}
		got, err := specFrom(t, bodyWith(at, value))
		if err != nil {
			t.Errorf("%s = %s: %v", at, value, err)
		} else if reflect.DeepEqual(base, got) {
			t.Errorf("%s = %s changes nothing", at, value)
		}
	}
}

// TestEveryMemberOfAnElementArrives drops one member after the other from full elements.
func TestEveryMemberOfAnElementArrives(t *testing.T) {
	for at, value := range examples {
		if !strings.Contains(at, "[]") && !strings.Contains(at, "{}") {
			continue
		}
		full, err := specFrom(t, bodyWith(at, value))
		if err != nil {
			t.Fatal(at, err)
		}
		var walk func(node map[string]any, root map[string]any, path string)
		walk = func(node, root map[string]any, path string) {
			for key, v := range node {
				delete(node, key)
				raw, err := json.Marshal(root)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := specFrom(t, bodyWith(at, string(raw))); err == nil && reflect.DeepEqual(full, got) {
					t.Errorf("%s%s.%s changes nothing", at, path, key)
				}
				node[key] = v
				if child, ok := v.(map[string]any); ok {
					walk(child, root, path+"."+key)
				}
			}
		}
		var root map[string]any
		if err := json.Unmarshal([]byte(value), &root); err != nil {
			t.Fatal(err)
		}
		walk(root, root, "")
	}
}

func TestEveryRefusedFieldIsRefusedByName(t *testing.T) {
	for path, r := range createRules() {
		if r.kind != refused || strings.Contains(path, "{}") || strings.Contains(path, "[]") {
			continue
		}
		_, err := specFrom(t, bodyWith(path, `"never"`))
		if err == nil || !strings.HasPrefix(err.Error(), path+": ") || statusOf(err) != 400 {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestCreateBody(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"nothing", ``, "invalid JSON: got EOF while reading request body"},
		{"null", `null`, "config cannot be empty in order to create a container"},
		{"empty", `{}`, "config cannot be empty in order to create a container"},
		{"host only", `{"HostConfig":{}}`, "config cannot be empty in order to create a container"},
		{"trailing", `{"Image":"i"} {}`, "unexpected content after JSON"},
		{"trailing rubbish", `{"Image":"i"}}`, "unexpected content after JSON"},
		{"broken", `{"Image":`, "invalid JSON: unexpected EOF"},
		{"list", `[]`, "invalid JSON: : a list is not expected here"},
		{"unknown zero", `{"Image":"i","NewThing":null,"HostConfig":{"Other":[],"More":{"A":0}}}`, ""},
		{"unknown", `{"Image":"i","NewThing":1}`, "NewThing: this version of triton does not know the field"},
		{"unknown below", `{"Image":"i","HostConfig":{"X":{"A":true}}}`, "HostConfig.X: this version of triton does not know the field"},
		{"other case", `{"Image":"i","hostconfig":{"umask":1}}`,
			`HostConfig.Umask: 1 is not supported by this version of triton`},
		{"port and peer", `{"Image":"i","HostConfig":{"NetworkMode":"container:a","PortBindings":{"80/tcp":[{"HostPort":"1"}]}}}`,
			"conflicting options: port publishing and the container type network mode"},
		{"port of IPv6", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"1"}]}}}`, ""},
		{"port of a link-local address", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"fe80::1%eth0","HostPort":"1"}]}}}`,
			"HostConfig.PortBindings: fe80::1%eth0: an address with a zone is not supported by this version of triton"},
		{"port of IPv6 addresses", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::","HostPort":"1"},{"HostIp":"2001:db8::1","HostPort":"2"}]}}}`, ""},
		{"port of text", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}`,
			`HostConfig.PortBindings: invalid port specification: "x"`},
		{"port with protocol", `{"Image":"i","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"1/udp"}]}}}`,
			`HostConfig.PortBindings: invalid port specification: "1/udp"`},
		{"port 0", `{"Image":"i","HostConfig":{"PortBindings":{"0/tcp":[{"HostPort":"1"}]}}}`,
			`HostConfig.PortBindings: invalid port specification: "0/tcp"`},
		{"port of no protocol", `{"Image":"i","HostConfig":{"PortBindings":{"80/icmp":[{"HostPort":"1"}]}}}`,
			`HostConfig.PortBindings: invalid protocol: "80/icmp"`},
		{"link", `{"Image":"i","HostConfig":{"Links":["nosuch:a"]}}`, "HostConfig.Links: could not get container for nosuch: No such container: nosuch"},
		{"link of the host", `{"Image":"i","HostConfig":{"NetworkMode":"host","Links":["a"]}}`,
			"conflicting options: host type networking can't be used with links. This would result in undefined behavior"},
		{"dockerode", `{"Image":"i","name":"n","platform":"linux/amd64"}`, ""},
		{"string command", `{"Image":"i","Cmd":"date"}`, ""},
		{"wrong type", `{"Image":5}`, "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Image of type string"},
		{"bad bind", `{"Image":"i","HostConfig":{"Binds":["/a:/b:ro,rw"]}}`, "invalid mode: ro,rw"},
		{"twice", `{"Image":"i","HostConfig":{"Binds":["/a:/b"],"Tmpfs":{"/b":""}}}`, "Duplicate mount point: /b"},
		{"relative", `{"Image":"i","WorkingDir":"w"}`, "the working directory 'w' is invalid, it needs to be an absolute path"},
		{"user network", `{"Image":"i","HostConfig":{"NetworkMode":"mine"}}`, ""},
		{"bad network", `{"Image":"i","HostConfig":{"NetworkMode":"mi ne"}}`, `HostConfig.NetworkMode: invalid mode "mi ne": not a mode docker has`},
		{"missing peer", `{"Image":"i","HostConfig":{"NetworkMode":"container:nosuch"}}`, "HostConfig.NetworkMode: No such container: nosuch"},
		{"peer and name", `{"Image":"i","Hostname":"h","HostConfig":{"NetworkMode":"container:a"}}`, "conflicting options: hostname and the network mode"},
		{"endpoint", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["x"]}}}}`,
			"invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"},
		{"IPv6 address on the bridge", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv6Address":"fd00::9"}}}}}`,
			"invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"},
		{"address on the bridge", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"10.0.0.9"}}}}}`,
			"invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"},
		{"options of an endpoint", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"foo":{"DriverOpts":{"a":"b"}}}}}`,
			"DriverOpts: a is not supported by this version of triton: com.docker.network.endpoint.ifname and com.docker.network.endpoint.sysctls are"},
		{"interface's name", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"foo":{"DriverOpts":{"com.docker.network.endpoint.ifname":"a/b"}}}}}`,
			"invalid endpoint settings:\ninvalid interface name \"a/b\""},
		{"interface's sysctl", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"foo":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.all.rp_filter=1"}}}}}`,
			"invalid endpoint settings:\nunrecognised network interface sysctl \"net.ipv4.conf.all.rp_filter=1\": it must be net.ipv4.conf.IFNAME.NAME=VALUE, or of ipv6, mpls, neigh"},
		{"options on the bridge", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"bridge":{"DriverOpts":{"com.docker.network.endpoint.ifname":"a"}}}}}`,
			"DriverOpts of the default network are not supported by this version of triton: those of other networks are"},
		{"host and another", `{"Image":"i","HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{"foo":{}}}}`,
			"conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{"other endpoint", `{"Image":"i","NetworkingConfig":{"EndpointsConfig":{"foo":{}}}}`, ""},
		{"memory", `{"Image":"i","HostConfig":{"Memory":5}}`, "Minimum memory limit allowed is 6MB"},
		{"capability", `{"Image":"i","HostConfig":{"CapAdd":["fly"]}}`, `invalid CapAdd: unknown capability: "fly"`},
		{"apparmor", `{"Image":"i","HostConfig":{"SecurityOpt":["apparmor=x"]}}`, `HostConfig.SecurityOpt: "apparmor=x" is not supported by this version of triton`},
		{"fine opts", `{"Image":"i","HostConfig":{"SecurityOpt":[
			"apparmor=unconfined","label=disable","label:disable","seccomp=unconfined","no-new-privileges:true"]}}`, ""},
		{"driver", `{"Image":"i","HostConfig":{"LogConfig":{"Type":"syslog"}}}`,
			`HostConfig.LogConfig.Type: log driver "syslog" is not supported by this version of triton: json-file, local and none are`},
		{"env", `{"Image":"i","Env":["=x"]}`, "invalid environment variable: =x"},
		{"signal", `{"Image":"i","StopSignal":"SIGX"}`, "invalid signal: SIGX"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkCreate(t, tc.body, tc.want) })
	}
}

func TestCreateBodyAboutDevicesAndAddresses(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"empty annotation", `{"Image":"i","HostConfig":{"Annotations":{"":"b"}}}`,
			"invalid Annotations: the empty string is not permitted as an annotation key"},
		{"gpu", `{"Image":"i","HostConfig":{"DeviceRequests":[{"Count":-1,"Capabilities":[["gpu"]]}]}}`,
			`could not select device driver "" with capabilities: [[gpu]]`},
		{"gpu of a driver", `{"Image":"i","HostConfig":{"DeviceRequests":[{"Driver":"d","Capabilities":[["gpu","x"],["y"]]}]}}`,
			`could not select device driver "d" with capabilities: [[gpu x] [y]]`},
		{"device rule", `{"Image":"i","HostConfig":{"DeviceCgroupRules":["c 1:3"]}}`, "invalid device cgroup rule format: 'c 1:3'"},
		{"device number", `{"Image":"i","HostConfig":{"DeviceCgroupRules":["c 99999999999:3 r"]}}`,
			"invalid number in device cgroup rule: 'c 99999999999:3 r'"},
		{"swappiness", `{"Image":"i","HostConfig":{"MemorySwappiness":101}}`, "Invalid value: 101, valid memory swappiness range is 0-100"},
		{"swappiness of older clients", `{"Image":"i","HostConfig":{"MemorySwappiness":-1}}`, ""},
		{"weight of a device", `{"Image":"i","HostConfig":{"BlkioWeightDevice":[{"Path":"/dev/a","Weight":9}]}}`,
			"HostConfig.BlkioWeightDevice: Range of blkio weight is from 10 to 1000"},
		{"no limit", `{"Image":"i","HostConfig":{"BlkioDeviceReadBps":[null]}}`, "HostConfig: block I/O limit readBps: a rate above 0 is needed"},
		{"limit of nothing", `{"Image":"i","HostConfig":{"BlkioDeviceReadBps":[{"Rate":1}]}}`,
			`HostConfig: block I/O limit: "" is not the path of a device`},
		{"group address", `{"Image":"i","MacAddress":"01:00:00:00:00:01"}`, "invalid MAC address 01:00:00:00:00:01"},
		{"two addresses", `{"Image":"i","MacAddress":"02:00:00:00:00:01",
			"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:00:00:00:00:02"}}}}`,
			"the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"},
		{"address of the host", `{"Image":"i","MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"host"}}`,
			"conflicting options: mac-address and the network mode"},
	} {
		t.Run(tc.name, func(t *testing.T) { checkCreate(t, tc.body, tc.want) })
	}
}

// checkCreate wants a create body to be refused with a text and status 400; "": to be accepted.
func checkCreate(t *testing.T, body, want string) {
	t.Helper()
	_, err := specFrom(t, body)
	got := ""
	if err != nil {
		got = messageOf(err)
		if statusOf(err) != 400 {
			t.Errorf("status: got %d, want 400", statusOf(err))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCreateBodyAboutLife(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"restart and remove", `{"Image":"i","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`,
			"can't create 'AutoRemove' container with restart policy"},
		{"remove without restart", `{"Image":"i","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"no"}}}`, ""},
		{"restart for ever, but twice", `{"Image":"i","HostConfig":{"RestartPolicy":{"Name":"always","MaximumRetryCount":2}}}`,
			"invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		{"restart count alone", `{"Image":"i","HostConfig":{"RestartPolicy":{"MaximumRetryCount":2}}}`,
			"HostConfig.RestartPolicy.MaximumRetryCount: 2 without a policy has no meaning"},
		{"fast health check", `{"Image":"i","Healthcheck":{"Test":["CMD","x"],"Interval":999999}}`, "Interval in Healthcheck cannot be less than 1ms"},
		{"slow health check", `{"Image":"i","Healthcheck":{"Test":["CMD","x"],"Timeout":-1}}`, "Timeout in Healthcheck cannot be less than 1ms"},
		{"health check of no kind", `{"Image":"i","Healthcheck":{"Test":["x"]}}`, `Healthcheck.Test: unknown type "x": want NONE, CMD or CMD-SHELL`},
		{"empty health check", `{"Image":"i","Healthcheck":{"Test":["CMD"]}}`, "Healthcheck.Test: CMD without a command"},
		{"retries", `{"Image":"i","Healthcheck":{"Retries":-1}}`, "Retries in Healthcheck cannot be negative"},
		{"no health check", `{"Image":"i","Healthcheck":{"Test":["NONE"]}}`, ""},
		{"restart no", `{"Image":"i","HostConfig":{"RestartPolicy":{"Name":"no"}}}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) { checkCreate(t, tc.body, tc.want) })
	}
}

func TestSpecOfDockerRun(t *testing.T) {
	raw, err := os.ReadFile("testdata/create-cli-28.2.2.json")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := specFrom(t, string(raw))
	if err != nil {
		t.Fatal(err)
	}
	img := busyboxImage()
	if err := mergeImage(&spec, &img); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "spec-cli-28.2.2.json", out)
}

func TestContainerModesCarryIDs(t *testing.T) {
	spec, err := specFrom(t, `{"Image":"i","HostConfig":{"NetworkMode":"container:a","PidMode":"container:b","IpcMode":"container:c"}}`)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{spec.NetworkMode, spec.PidMode, spec.IpcMode}
	want := []string{"container:full-id-of-a", "container:full-id-of-b", "container:full-id-of-c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMergeImage(t *testing.T) {
	img := triton.Image{ID: "sha256:1", Config: triton.ImageConfig{
		Entrypoint: []string{"ie"}, Cmd: []string{"ic"}, Env: []string{"A=image", "B=image"}, User: "iu", WorkingDir: "/i",
		Labels: map[string]string{"a": "image", "b": "image"}, ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/v"}, StopSignal: "SIGQUIT",
	}}
	for _, tc := range []struct {
		name string
		spec triton.Spec
		argv string
	}{
		{"all the image's", triton.Spec{}, "ie ic"},
		{"own command", triton.Spec{Cmd: []string{"c"}}, "ie c"},
		{"own entrypoint drops the image's command", triton.Spec{Entrypoint: []string{"e"}}, "e"},
		{"own both", triton.Spec{Entrypoint: []string{"e"}, Cmd: []string{"c"}}, "e c"},
		{"no entrypoint", triton.Spec{Entrypoint: []string{""}, Cmd: []string{"c"}}, "c"},
	} {
		if err := mergeImage(&tc.spec, &img); err != nil {
			t.Fatal(tc.name, err)
		}
		if got := strings.Join(tc.spec.Argv(), " "); got != tc.argv {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.argv)
		}
	}
	spec := triton.Spec{Env: []string{"A=user"}, Labels: map[string]string{"a": "user"}, ExposedPorts: []string{"81/tcp"}, User: "u"}
	if err := mergeImage(&spec, &img); err != nil {
		t.Fatal(err)
	}
	want := triton.Spec{
		ImageID: "sha256:1", Entrypoint: []string{"ie"}, Cmd: []string{"ic"}, Env: []string{"A=user", "B=image"}, WorkingDir: "/i", User: "u",
		Labels: map[string]string{"a": "user", "b": "image"}, ExposedPorts: []string{"80/tcp", "81/tcp"}, Volumes: []string{"/v"}, StopSignal: "SIGQUIT",
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	none := triton.Spec{}
	if err := mergeImage(&none, &triton.Image{}); err == nil || err.Error() != "no command specified" {
		t.Errorf("no command: got %v", err)
	}
}

func FuzzCreateBody(f *testing.F) {
	raw, err := os.ReadFile("testdata/create-cli-28.2.2.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	for path, value := range examples {
		f.Add([]byte(bodyWith(path, value)))
	}
	rules := buildRules(createRules())
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := decodeCreate(body, rules)
		if err != nil {
			return
		}
		spec, err := specOf(req, maxVersion, func(string) (triton.ContainerKey, error) { return triton.ContainerKey{}, nil })
		if err != nil {
			return
		}
		if len(spec.Volumes) != len(req.Volumes) {
			t.Errorf("%d declared volumes became %d: %s", len(req.Volumes), len(spec.Volumes), body)
		}
		if _, err := json.Marshal(spec); err != nil {
			t.Error(err)
		}
	})
}
