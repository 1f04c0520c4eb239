package placement

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// Promises says what of a container's settings is a promise of this machine: one that it cannot keep is refused.
type Promises string

// The kinds of Promises. Whatever is no promise is a limit, and bounds what the container is expected to use.
const (
	PromiseNothing      Promises = "none"         // decisions are made and explained, lack of room refuses nothing
	PromiseReservations Promises = "reservations" // --memory-reservation and the label triton.cpu.min
	PromiseLimits       Promises = "limits"       // --memory and --cpus too
)

// Validate accepts the three.
func (p Promises) Validate() error {
	if !slices.Contains([]Promises{PromiseNothing, PromiseReservations, PromiseLimits}, p) {
		return fmt.Errorf("promises %q: must be none, reservations or limits: %w", p, errdefs.ErrInvalidArgument)
	}
	return nil
}

// minCPULabel holds the cores that a container is promised, such as 0.5; docker has no flag for it.
const minCPULabel = "triton.cpu.min"

// Container is what a decision about one needs.
type Container struct {
	Key  triton.ContainerKey
	Name string
	Spec *triton.Spec // not kept, but for its labels, which are never changed
}

// request says what a container asks for.
func (p *Placement) request(c Container) (sched.Request, error) {
	s, r := c.Spec, &c.Spec.Resources
	constraints, err := sched.Constraints(s.Env, s.Labels)
	if err != nil {
		return sched.Request{}, err
	}
	minCPU, err := minCPUs(s.Labels)
	if err != nil {
		return sched.Request{}, err
	}
	out := sched.Request{
		Key: c.Key, Name: c.Name, Image: imageName(s.Image), ImageID: s.ImageID, Labels: s.Labels, Constraints: constraints,
		MaxCPU: maxCPUs(r), MaxMemory: r.Memory, BestEffort: true,
	}
	switch p.cfg.Promises {
	case PromiseReservations:
		out.CPU, out.Memory = minCPU, r.MemoryReservation
	case PromiseLimits:
		out.CPU, out.Memory = max(minCPU, out.MaxCPU), cmp.Or(r.Memory, r.MemoryReservation)
	}
	return out, nil
}

// minCPUs reads the label.
func minCPUs(labels map[string]string) (float64, error) {
	text, ok := labels[minCPULabel]
	if !ok {
		return 0, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("label %s=%.40q: must be a number of cores, such as 0.5: %w", minCPULabel, text, errdefs.ErrInvalidArgument)
	}
	return v, nil
}

// maxCPUs is the cores that the limits leave a container; 0: all.
func maxCPUs(r *triton.Resources) float64 {
	most := math.Inf(1)
	if r.NanoCPUs > 0 {
		most = float64(r.NanoCPUs) / 1e9
	}
	if r.CPUQuota > 0 {
		const usualPeriod = 100_000 // microseconds; kernel/sched/fair.c, default_cfs_period
		most = min(most, float64(r.CPUQuota)/float64(cmp.Or(r.CPUPeriod, usualPeriod)))
	}
	if n := cpusOf(r.CpusetCPUs); n > 0 {
		most = min(most, float64(n))
	}
	if math.IsInf(most, 0) {
		return 0
	}
	return most
}

// cpusOf counts the processors of a list such as 0-3,7 (cpuset(7)), which the runtime has checked; 0: none are named.
func cpusOf(list string) (n int) {
	for _, part := range strings.Split(list, ",") {
		first, last, ok := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if ok {
			if b, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		n += max(0, b-a+1)
	}
	return n
}

// imageName gives an image the same name however the user spelled it: redis and docker.io/library/redis:latest are redis:latest.
func imageName(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref // an id
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

// present tells the snapshot what is here for the request: its own image always is, and others matter to affinity:image only.
func (p *Placement) present(ctx context.Context, r *sched.Request) ([]string, error) {
	images := []string{r.Image}
	if !slices.ContainsFunc(r.Constraints, func(c sched.Constraint) bool { return c.Kind == sched.WithImage }) {
		return images, nil
	}
	all, err := p.cfg.Images(ctx, r.Key.Tenant)
	if err != nil {
		return nil, fmt.Errorf("images for a constraint of %s: %w", r.Key, err)
	}
	for _, ref := range all {
		images = append(images, ref)
		if named, err := reference.ParseNormalizedNamed(ref); err == nil {
			images = append(images, reference.FamiliarName(named))
		}
	}
	return images, nil
}
