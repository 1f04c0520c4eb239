package dockerapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// updateRules says what becomes of each field of POST /containers/{id}/update. Docker takes more into its record than it
// changes; here what is not changed is refused.
func updateRules() ruleTable {
	t := ruleTable{}
	for path, r := range resourceRules() {
		t[strings.TrimPrefix(path, "HostConfig.")] = r
	}
	const create = "it can be set at create only"
	for _, name := range []string{"Devices", "Ulimits", "DeviceCgroupRules", "DeviceRequests", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
		"BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"} {
		for path := range t {
			if strings.HasPrefix(path, name+"[]") {
				delete(t, path)
			}
		}
		t[name] = rule{kind: refused, why: create}
	}
	t["OomKillDisable"] = rule{kind: refused, why: create}
	t["MemorySwappiness"] = rule{kind: refused, also: []string{"-1"}, why: create}
	t["RestartPolicy.Name"] = rule{kind: mapped}
	t["RestartPolicy.MaximumRetryCount"] = rule{kind: mapped}
	return t
}

// decodeUpdate reads an update body whose every field the rules accept.
func decodeUpdate(raw []byte, rules *ruleNode) (triton.Update, error) {
	tree, err := decodeTree(raw)
	if err != nil {
		return triton.Update{}, err
	}
	if err := rules.check(tree, ""); err != nil {
		return triton.Update{}, err
	}
	var req container.UpdateConfig
	if err := decodeTyped(tree, &req); err != nil {
		return triton.Update{}, err
	}
	host := &container.HostConfig{Resources: req.Resources}
	if host.Memory == 0 {
		host.MemorySwap = 0 // the limit that it goes with is the container's own
	}
	if err := checkResources(host); err != nil {
		return triton.Update{}, err
	}
	r := &req.Resources
	u := triton.Update{PidsLimit: r.PidsLimit, Resources: triton.Resources{
		Memory: r.Memory, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
		NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares, CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota,
		CpusetCPUs: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
	}}
	policy, err := restartPolicy(req.RestartPolicy)
	if err != nil {
		return triton.Update{}, err
	}
	if req.RestartPolicy.Name != "" {
		u.RestartPolicy = &policy
	}
	return u, nil
}

func (s *Server) updateContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	raw, err := c.body()
	if err != nil {
		return err
	}
	u, err := decodeUpdate(raw, s.update)
	if err != nil {
		return err
	}
	warnings, err := s.Backend.UpdateContainer(ctx, key, u)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, container.UpdateResponse{Warnings: nonNil(warnings)})
}
