package dockerapi

import (
	"encoding/json"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// mapDevices reads which devices a container sees, may use, and how fast.
func mapDevices(spec *triton.Spec, h *container.HostConfig) error {
	for _, d := range h.Devices {
		dev := triton.Device{HostPath: d.PathOnHost, ContainerPath: or(d.PathInContainer, d.PathOnHost), Permissions: or(d.CgroupPermissions, "rwm")}
		if dev.HostPath == "" || strings.Trim(dev.Permissions, "rwm") != "" {
			return invalid("HostConfig.Devices: invalid device %q with permissions %q", d.PathOnHost, d.CgroupPermissions)
		}
		spec.Devices = append(spec.Devices, dev)
	}
	for _, text := range h.DeviceCgroupRules {
		r, err := deviceRule(text)
		if err != nil {
			return err
		}
		spec.DeviceRules = append(spec.DeviceRules, r)
	}
	if len(h.DeviceRequests) > 0 { // no driver is there to answer any
		r := h.DeviceRequests[0]
		caps, err := json.Marshal(r.Capabilities)
		if err != nil {
			return err
		}
		list := strings.NewReplacer(`"`, "", ",", " ", "null", "[]").Replace(string(caps)) // as Go prints it
		return invalid("could not select device driver %q with capabilities: %s", r.Driver, list)
	}
	return mapBlockLimits(spec, &h.Resources)
}

// deviceRuleForm is docker's: type, major:minor, permissions.
var deviceRuleForm = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

func deviceRule(text string) (triton.DeviceRule, error) {
	m := deviceRuleForm.FindStringSubmatch(text)
	if m == nil {
		return triton.DeviceRule{}, invalid("invalid device cgroup rule format: '%s'", text)
	}
	r := triton.DeviceRule{Type: m[1], Permissions: m[4]}
	for i, to := range []**int64{&r.Major, &r.Minor} {
		if m[i+2] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[i+2], 10, 32) // the kernel has 12 and 20 bits
		if err != nil {
			return r, invalid("invalid number in device cgroup rule: '%s'", text)
		}
		*to = &n
	}
	return r, nil
}

// deviceRuleText gives a rule back in docker's form.
func deviceRuleText(r triton.DeviceRule) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	return r.Type + " " + number(r.Major) + ":" + number(r.Minor) + " " + r.Permissions
}

// throttles are the lists of limits of a request, or of an answer, by what they limit.
func throttles(r *container.Resources) map[triton.BlockLimitKind]*[]*blkiodev.ThrottleDevice {
	return map[triton.BlockLimitKind]*[]*blkiodev.ThrottleDevice{
		triton.BlockReadBps: &r.BlkioDeviceReadBps, triton.BlockWriteBps: &r.BlkioDeviceWriteBps,
		triton.BlockReadIOps: &r.BlkioDeviceReadIOps, triton.BlockWriteIOps: &r.BlkioDeviceWriteIOps,
	}
}

func mapBlockLimits(spec *triton.Spec, r *container.Resources) error {
	add := func(kind triton.BlockLimitKind, device string, value uint64) error {
		if !path.IsAbs(device) {
			return invalid("HostConfig: block I/O limit: %q is not the path of a device", device)
		}
		spec.BlockLimits = append(spec.BlockLimits, triton.BlockLimit{Kind: kind, Path: device, Value: value})
		return nil
	}
	for _, w := range r.BlkioWeightDevice {
		if w == nil || w.Weight < 10 || w.Weight > 1000 {
			return invalid("HostConfig.BlkioWeightDevice: Range of blkio weight is from 10 to 1000")
		}
		if err := add(triton.BlockWeight, w.Path, uint64(w.Weight)); err != nil {
			return err
		}
	}
	lists := throttles(r)
	for _, kind := range sortedKeys(lists) {
		for _, d := range *lists[kind] {
			if d == nil || d.Rate == 0 {
				return invalid("HostConfig: block I/O limit %s: a rate above 0 is needed", kind)
			}
			if err := add(kind, d.Path, d.Rate); err != nil {
				return err
			}
		}
	}
	return nil
}

// addBlockLimits gives the limits back as they were asked for.
func addBlockLimits(r *container.Resources, limits []triton.BlockLimit) {
	r.BlkioWeightDevice = []*blkiodev.WeightDevice{}
	lists := throttles(r)
	for _, list := range lists {
		*list = []*blkiodev.ThrottleDevice{}
	}
	for _, l := range limits {
		if list, ok := lists[l.Kind]; ok {
			*list = append(*list, &blkiodev.ThrottleDevice{Path: l.Path, Rate: l.Value})
			continue
		}
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: l.Path, Weight: uint16(l.Value)})
	}
}
