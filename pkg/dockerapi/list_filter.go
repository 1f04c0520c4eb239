package dockerapi

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

// containerFilter selects what docker ps shows. Everything that needs the backend was looked up when it was made.
type containerFilter struct {
	filters
	all   bool // stopped ones too
	limit int  // newest so many, 0 and less: no bound
	exits []int
	// before and since are ids of containers; "" when not filtered by.
	before, since string
	names         []*regexp.Regexp
	ids           []*regexp.Regexp
	images        map[string]bool // ids that ancestor resolved to; nil: not filtered
	exposed       map[string]bool // "80/tcp"; nil: not filtered
	published     map[string]bool // "8080/tcp"; nil: not filtered
	tasks         bool            // is-task=true: there are none
}

func (s *Server) containerFilter(ctx context.Context, c *call) (*containerFilter, error) {
	f := &containerFilter{all: c.query.bool("all")}
	var err error
	f.filters, err = parseFilters(c.query.Get("filters"), "ancestor", "before", "exited", "expose", "health", "id", "is-task",
		"isolation", "label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return nil, err
	}
	if text := c.query.Get("limit"); text != "" {
		if f.limit, err = strconv.Atoi(text); err != nil {
			return nil, invalid("invalid limit %q: not a number", text)
		}
	}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, f.lookUp(ctx, s.Backend, c.tenant)
}

// read checks the values and turns them into what include compares with.
func (f *containerFilter) read() (err error) {
	for value := range f.filters["status"] {
		if err := container.ValidateContainerState(container.ContainerState(value)); err != nil {
			return invalid("invalid filter 'status=%s': %v", value, err)
		}
		f.all = true
	}
	for value := range f.filters["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(value)); err != nil {
			return invalid("invalid filter 'health=%s': %v", value, err)
		}
	}
	if f.exits, err = f.numbers("exited"); err != nil {
		return err
	}
	if f.tasks, _, err = f.flag("is-task"); err != nil {
		return err
	}
	f.names, f.ids = f.patterns("name"), f.patterns("id")
	if f.exposed, err = f.portSet("expose"); err != nil {
		return err
	}
	f.published, err = f.portSet("publish")
	return err
}

// portSet reads ports and ranges of ports, "80", "80/udp" or "80-90/tcp".
func (f *containerFilter) portSet(name string) (map[string]bool, error) {
	if len(f.filters[name]) == 0 {
		return nil, nil
	}
	set := map[string]bool{}
	for value := range f.filters[name] {
		if strings.Contains(value, ":") {
			return nil, invalid("filter for '%s' should not contain ':': %s", name, value)
		}
		ports, err := network.ParsePortRange(value)
		if err != nil {
			return nil, invalid("error while looking up for %s %s: %v", name, value, err)
		}
		for port := range ports.All() {
			set[port.String()] = true
		}
	}
	return set, nil
}

func (f *containerFilter) lookUp(ctx context.Context, b Backend, tenant triton.Tenant) error {
	for _, want := range []struct {
		name string
		id   *string
	}{{"before", &f.before}, {"since", &f.since}} {
		for value := range f.filters[want.name] {
			key, err := b.ResolveContainer(ctx, tenant, value)
			if err != nil {
				return err
			}
			*want.id = key.ID
		}
	}
	if len(f.filters["ancestor"]) == 0 {
		return nil
	}
	f.images = map[string]bool{}
	for value := range f.filters["ancestor"] {
		// An image that does not exist has no containers: docker says so by an empty list.
		if img, err := b.InspectImage(ctx, tenant, value); err == nil {
			f.images[img.ID] = true
		}
	}
	return nil
}

// selectFrom returns the containers to show, newest first, as docker sorts them.
func (f *containerFilter) selectFrom(all []triton.Container) []*triton.Container {
	sorted := make([]*triton.Container, len(all))
	for i := range all {
		sorted[i] = &all[i]
	}
	slices.SortStableFunc(sorted, func(a, b *triton.Container) int { return b.Created.Compare(a.Created) })
	if f.before != "" {
		i := slices.IndexFunc(sorted, func(c *triton.Container) bool { return c.Key.ID == f.before })
		sorted = sorted[i+1:]
	}
	if f.since != "" {
		if i := slices.IndexFunc(sorted, func(c *triton.Container) bool { return c.Key.ID == f.since }); i >= 0 {
			sorted = sorted[:i]
		}
	}
	chosen := sorted[:0]
	for _, c := range sorted {
		if f.limit > 0 && len(chosen) == f.limit {
			break
		}
		if f.include(c) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func (f *containerFilter) include(c *triton.Container) bool {
	running := countsAsRunning(&c.State)
	switch {
	case !running && !f.all && f.limit <= 0,
		len(f.names) > 0 && !anyMatch(f.names, c.Name, "/"+c.Name),
		len(f.ids) > 0 && !f.exact("id", c.Key.ID) && !anyMatch(f.ids, c.Key.ID),
		f.tasks,
		!f.labels("label", c.Spec.Labels),
		len(f.exits) > 0 && (running || c.State.StartedAt.IsZero() || !slices.Contains(f.exits, c.State.ExitCode)),
		!f.exact("status", string(c.State.Status)),
		!f.exact("health", healthStatus(c)),
		f.images != nil && !f.images[c.Spec.ImageID],
		!f.usesVolume(c),
		!f.inNetwork(c):
		return false
	}
	if f.published != nil && !publishes(c, f.published) {
		return false
	}
	if f.exposed == nil {
		return true
	}
	return slices.ContainsFunc(visiblePorts(c), func(p string) bool { return f.exposed[p] })
}

func (f *containerFilter) usesVolume(c *triton.Container) bool {
	if len(f.filters["volume"]) == 0 {
		return true
	}
	return slices.ContainsFunc(c.Spec.Mounts, func(m triton.Mount) bool {
		return m.Type != triton.MountTmpfs && f.exact("volume", m.Source, m.Target)
	})
}

func (f *containerFilter) inNetwork(c *triton.Container) bool {
	if len(f.filters["network"]) == 0 {
		return true
	}
	for name, ep := range endpointsOf(c) {
		if f.exact("network", name) || f.prefix("network", ep.NetworkID) {
			return true
		}
	}
	return false
}

// isRunning reports whether a container has a first process.
func isRunning(c *triton.Container) bool {
	return c.State.Status.Runs()
}

// countsAsRunning is docker's Running, which a container is too that restarts: it is to be stopped before it is removed.
func countsAsRunning(st *triton.State) bool {
	return st.Status.Runs() || st.Status == triton.StatusRestarting
}

// visiblePorts are the ports docker ps lists: those exposed, while the container runs in a network of its own.
func visiblePorts(c *triton.Container) []string {
	mode := networkName(c)
	if !isRunning(c) || mode == "" || mode == triton.ModeHost || mode == triton.ModeNone {
		return nil
	}
	return c.Spec.ExposedPorts
}
