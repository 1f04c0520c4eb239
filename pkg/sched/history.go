package sched

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tritond/triton/pkg/triton"
)

// History is what is known of images beyond the containers that run now. Its owner persists it (it is plain JSON) and feeds
// it. Two keys are kept per image, because tenants use the same image differently: see Origin.
type History struct {
	Images map[string]*ImageUse `json:"images"`
}

// ImageUse is the history of one key.
type ImageUse struct {
	Profile Profile `json:"profile"`
	// Request is what its containers asked for, cores; mean over hours.
	Request float64 `json:"request"`
	// Seen is the last hour since the Unix epoch in which one ran.
	Seen int64 `json:"seen,omitempty"`
	// Crashes counts deaths by signal, by the OOM killer or with a status other than 0, per node, fading by crashFade an hour.
	Crashes map[string]float64 `json:"crashes,omitempty"`
}

// Origin is whose use a history is of: that of a tenant's containers, by the name that the image has there, so that a new
// version under the old name is not unknown; and that of anyone's containers of the same content, since tenants give the same
// name to different images.
type Origin struct {
	Tenant  triton.Tenant
	Image   string
	ImageID string // "": Image names the content
}

// keys are the tenant's own and the one of all tenants.
func (o Origin) keys() [2]string {
	return [2]string{string(o.Tenant) + "|" + o.Image, cmp.Or(o.ImageID, o.Image)}
}

// MaxImages bounds the history, in keys; those not seen for longest are forgotten first. A key is about 0.6 KiB of memory, and
// 1 KiB of JSON.
const MaxImages = 4096

// crashFade is the hourly fading of crash counts: half is forgotten in about three days.
const crashFade = 0.99042

// NewHistory returns an empty history.
func NewHistory() *History { return &History{Images: map[string]*ImageUse{}} }

// Validate refuses what no history comes to: one that was read may be damaged.
func (h *History) Validate() error {
	for key, u := range h.Images {
		if u == nil {
			return fmt.Errorf("history of %.80q: nothing", key)
		}
		p := &u.Profile
		m := p.Mem
		numbers := []float64{u.Request, p.Hours, float64(p.Runs), float64(p.Peak), float64(m.Mean), float64(m.Var), float64(m.Peak), float64(m.Weight)}
		for b := range Slots {
			numbers = append(numbers, float64(p.Mean[b]), float64(p.Var[b]), float64(p.Days[b]))
		}
		for _, count := range u.Crashes {
			numbers = append(numbers, count)
		}
		for _, v := range numbers {
			if v < 0 || v > mostObserved {
				return fmt.Errorf("history of %.80q: %v is no observation", key, v)
			}
		}
	}
	return nil
}

// mostObserved bounds every number of a history: squares of it are still numbers, and so many MiB a number of bytes.
const mostObserved = 1e12

// Observe adds what a container used in an hour or a part of it. hour counts hours since the Unix epoch; request is in cores.
func (h *History) Observe(of Origin, hour int64, request float64, use HourUse) {
	for _, key := range of.keys() {
		u := h.entry(key)
		u.Profile.Observe(hour, use)
		u.Seen = max(u.Seen, hour)
		u.Request += (request - u.Request) * use.share() / min(u.Profile.Hours, memHours)
	}
}

// RunEnded tells that a container ended; what it used was observed before.
func (h *History) RunEnded(of Origin) {
	for _, key := range of.keys() {
		h.entry(key).Profile.Runs++
	}
}

// Crashed counts a crash of a container on node.
func (h *History) Crashed(of Origin, node string) {
	for _, key := range of.keys() {
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
		if len(h.Images) >= MaxImages {
			h.forget()
		}
		u = &ImageUse{}
		h.Images[key] = u
	}
	return u
}

// forget drops the tenth of the keys that were not seen for longest, so that it is rarely called.
func (h *History) forget() {
	keys := make([]string, 0, len(h.Images))
	for k := range h.Images {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(h.Images[a].Seen, h.Images[b].Seen),
			cmp.Compare(h.Images[a].Profile.Hours, h.Images[b].Profile.Hours), cmp.Compare(a, b))
	})
	for _, k := range keys[:len(keys)/10+1] {
		delete(h.Images, k)
	}
}

// ForgetBefore drops what was not seen since hour.
func (h *History) ForgetBefore(hour int64) {
	maps.DeleteFunc(h.Images, func(_ string, u *ImageUse) bool { return u.Seen < hour })
}

// find returns the profile to believe: the tenant's own use of the image, else anyone's, else nil.
func (h *History) find(of Origin) *Profile {
	for _, key := range of.keys() {
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
	slices.Sort(keys) // sums must not depend on the order of a map
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
