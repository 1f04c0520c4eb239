package e2e

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// hostConfigValues gives each field of HostConfig a value in JSON that is neither docker's default nor nonsense.
func hostConfigValues() map[string]string {
	return map[string]string{
		"Annotations":          `{"a":"b"}`,
		"AutoRemove":           `true`,
		"Binds":                `["/tmp:/data"]`,
		"BlkioDeviceReadBps":   `[{"Path":"/dev/vda","Rate":1000000}]`,
		"BlkioDeviceReadIOps":  `[{"Path":"/dev/vda","Rate":1000}]`,
		"BlkioDeviceWriteBps":  `[{"Path":"/dev/vda","Rate":1000000}]`,
		"BlkioDeviceWriteIOps": `[{"Path":"/dev/vda","Rate":1000}]`,
		"BlkioWeight":          `500`,
		"BlkioWeightDevice":    `[{"Path":"/dev/vda","Weight":500}]`,
		"CapAdd":               `["CAP_NET_ADMIN"]`,
		"CapDrop":              `["CAP_CHOWN"]`,
		"Cgroup":               `"container:x"`,
		"CgroupParent":         `"/elsewhere"`,
		"CgroupnsMode":         `"host"`,
		"ConsoleSize":          `[24,80]`,
		"ContainerIDFile":      `"/tmp/cid"`,
		"CpuCount":             `1`,
		"CpuPercent":           `10`,
		"CpuPeriod":            `50000`,
		"CpuQuota":             `25000`,
		"CpuRealtimePeriod":    `1000000`,
		"CpuRealtimeRuntime":   `100000`,
		"CpuShares":            `512`,
		"CpusetCpus":           `"0"`,
		"CpusetMems":           `"0"`,
		"DeviceCgroupRules":    `["c 1:3 r"]`,
		"DeviceRequests":       `[{"Driver":"nvidia","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":null}]`,
		"Devices":              `[{"PathOnHost":"/dev/null","PathInContainer":"/dev/mine","CgroupPermissions":"rwm"}]`,
		"Dns":                  `["9.9.9.9"]`,
		"DnsOptions":           `["ndots:2"]`,
		"DnsSearch":            `["example.org"]`,
		"ExtraHosts":           `["db:10.9.8.7"]`,
		"GroupAdd":             `["staff"]`,
		"IOMaximumBandwidth":   `1000`,
		"IOMaximumIOps":        `1000`,
		"Init":                 `true`,
		"IpcMode":              `"shareable"`,
		"Isolation":            `"hyperv"`,
		"Links":                `["other:alias"]`,
		"LogConfig":            `{"Type":"json-file","Config":{"max-size":"1m"}}`,
		"MaskedPaths":          `["/proc/uptime"]`,
		"Memory":               `67108864`,
		"MemoryReservation":    `33554432`,
		"MemorySwap":           `-1`,
		"MemorySwappiness":     `10`,
		"Mounts":               `[{"Type":"tmpfs","Target":"/t"}]`,
		"NanoCpus":             `500000000`,
		"NetworkMode":          `"none"`,
		"OomKillDisable":       `true`,
		"OomScoreAdj":          `100`,
		"PidMode":              `"host"`,
		"PidsLimit":            `33`,
		"PortBindings":         `{"80/tcp":[{"HostIp":"","HostPort":"18080"}]}`,
		"Privileged":           `true`,
		"PublishAllPorts":      `true`,
		"ReadonlyPaths":        `["/proc/uptime"]`,
		"ReadonlyRootfs":       `true`,
		"RestartPolicy":        `{"Name":"on-failure","MaximumRetryCount":3}`,
		"Runtime":              `"kata"`,
		"SecurityOpt":          `["no-new-privileges"]`,
		"ShmSize":              `1048576`,
		"StorageOpt":           `{"size":"10G"}`,
		"Sysctls":              `{"net.ipv4.ip_forward":"1"}`,
		"Tmpfs":                `{"/t":"size=1m"}`,
		"UTSMode":              `"host"`,
		"Ulimits":              `[{"Name":"nofile","Hard":456,"Soft":123}]`,
		"Umask":                `18`,
		"UsernsMode":           `"host"`,
		"VolumeDriver":         `"other"`,
		"VolumesFrom":          `["other"]`,
	}
}

// TestHostConfigTableIsComplete fails when a new version of the API's types has a field that the table lacks.
func TestHostConfigTableIsComplete(t *testing.T) {
	values := hostConfigValues()
	var missing []string
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				walk(f.Type)
				continue
			}
			name := f.Name
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" {
				name = tag
			}
			if _, ok := values[name]; !ok {
				missing = append(missing, name)
			}
		}
	}
	walk(reflect.TypeFor[container.HostConfig]())
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("fields without a value: %q", missing)
	}
}
