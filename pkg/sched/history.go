package sched

import (
	"sort"
	"strings"

	"github.com/tritond/triton/pkg/triton"
)

// History is what is known of images beyond the containers that run now. Its owner persists it (it is plain JSON) and feeds
// it; two keys are kept per image, because tenants use the same image differently: with and without the tenant.
type History struct {
	Images map[string]*ImageUse `json:"images"`
}

// ImageUse is the history of one key.
type ImageUse struct {
	Profile Profile `json:"profile"`
	// Request is what its containers asked for, cores; mean over hours.
	Request float64 `json:"request"`
	// Crashes counts deaths by signal, by the OOM killer or with a status other than 0, per node, fading by crashFade an hour.
	Crashes map[string]float64 `json:"crashes,omitempty"`
}

// maxImages bounds the history; the least observed are forgotten first.
const maxImages = 20_000

// crashFade is the hourly fading of crash counts: half is forgotten in about three days.
const crashFade = 0.99042

// NewHistory returns an empty history.
func NewHistory() *History { return &History{Images: map[string]*ImageUse{}} }

func tenantKey(image string, tenant triton.Tenant) string { return string(tenant) + "|" + image }

// Observe adds what a container of image used in an hour or a part of it. hour counts hours since the Unix epoch; request is
// in cores.
func (h *History) Observe(image string, tenant triton.Tenant, hour int64, request float64, use HourUse) {
	for _, key := range []string{image, tenantKey(image, tenant)} {
		u := h.entry(key)
		u.Profile.Observe(hour, use)
		u.Request += (request - u.Request) * use.share() / min(u.Profile.Hours, memHours)
	}
}

// RunEnded tells that a container of image ended; what it used was observed before.
func (h *History) RunEnded(image string, tenant triton.Tenant) {
	for _, key := range []string{image, tenantKey(image, tenant)} {
		h.entry(key).Profile.Runs++
	}
}

// Crashed counts a crash of a tenant's container of image on node.
func (h *History) Crashed(image string, tenant triton.Tenant, node string) {
	for _, key := range []string{image, tenantKey(image, tenant)} {
		u := h.entry(key)
		if u.Crashes == nil {
			u.Crashes = map[string]float64{}
		}
		u.Crashes[node]++
	}
}

// Fade lets crash counts age by one hour.
func (h *History) Fade() {
	for _, u := range h.Images {
		for node := range u.Crashes {
			if u.Crashes[node] *= crashFade; u.Crashes[node] < 0.05 {
				delete(u.Crashes, node)
			}
		}
	}
}

func (h *History) entry(key string) *ImageUse {
	if h.Images == nil {
		h.Images = map[string]*ImageUse{}
	}
	u := h.Images[key]
	if u == nil {
		if len(h.Images) >= maxImages {
			h.forget()
		}
		u = &ImageUse{}
		h.Images[key] = u
	}
	return u
}

// forget drops the tenth of the keys that were observed least, so that it is rarely called.
func (h *History) forget() {
	keys := make([]string, 0, len(h.Images))
	for k := range h.Images {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := h.Images[keys[i]].Profile.Hours, h.Images[keys[j]].Profile.Hours
		return a < b || a == b && keys[i] < keys[j]
	})
	for _, k := range keys[:len(keys)/10+1] {
		delete(h.Images, k)
	}
}

// find returns the profile to believe for a container: the tenant's own use of the image, else anyone's, else nil.
func (h *History) find(image string, tenant triton.Tenant) *Profile {
	for _, key := range [2]string{tenantKey(image, tenant), image} {
		if u := h.Images[key]; u != nil && u.Profile.Known() {
			return &u.Profile
		}
	}
	return nil
}

// population is how images in general use what they request: the prior for one never seen.
type population struct {
	mean, vr float64 // of use / request
}

// minPopulation is how many images make a population.
const minPopulation = 20

// population looks at the keys without tenant. ok is false below minPopulation images.
func (h *History) population() (p population, ok bool) {
	keys := make([]string, 0, len(h.Images))
	for k, u := range h.Images {
		if u.Request > 0 && u.Profile.Known() && !strings.Contains(k, "|") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys) // sums must not depend on the order of a map
	n, sum, sumsq := 0.0, 0.0, 0.0
	for _, k := range keys {
		u := h.Images[k]
		for b := range Slots {
			m, v := float64(u.Profile.Mean[b])/u.Request, float64(u.Profile.Var[b])/u.Request/u.Request
			sum += m
			sumsq += m*m + v
		}
		n += Slots
	}
	if len(keys) < minPopulation {
		return population{}, false
	}
	p.mean = sum / n
	p.vr = max(0, sumsq/n-p.mean*p.mean)
	return p, true
}
