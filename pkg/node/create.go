package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/archive"
	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/triton"
)

// validName is docker's rule for container names.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CreateContainer takes a spec into which the image's defaults were merged. It reserves what a container keeps for its
// whole life (a namespace pair with its id range and address, a writable snapshot, a name) and records the intent.
// Nothing runs yet. On error nothing is left.
func (n *Node) CreateContainer(ctx context.Context, tenant triton.Tenant, name string, spec triton.Spec) (triton.ContainerKey, []string, error) {
	key := triton.ContainerKey{Tenant: tenant, ID: triton.NewID()}
	fail := func(err error) (triton.ContainerKey, []string, error) { return triton.ContainerKey{}, nil, err }
	name = strings.TrimPrefix(name, "/")
	generated := name == ""
	if generated {
		name = n.freeName(tenant)
	}
	if !validName.MatchString(name) {
		return fail(kindf(errdefs.ErrInvalidArgument, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	if err := n.checkSpec(tenant, &spec); err != nil {
		return fail(err)
	}
	n.quicken() // most containers are started at once
	networks, err := n.resolveMemberships(tenant, spec.Networks)
	if err != nil {
		return fail(err)
	}
	networks = withDefault(tenant, &spec, networks)
	warnings, err := n.checkPorts(&spec, tenant, networks)
	if err != nil {
		return fail(err)
	}
	decision, err := n.cfg.Placement.Place(ctx, placement.Container{Key: key, Name: name, Spec: &spec})
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err != nil {
			n.cfg.Placement.Drop(key)
		}
	}()
	plan, err := n.planVolumes(ctx, tenant, &spec)
	if err != nil {
		return fail(err)
	}
	defer func() {
		if perr := n.endPlan(context.WithoutCancel(ctx), plan, err == nil); perr != nil {
			n.log.Error("volumes of a container that was not created are left", "err", perr)
		}
	}()
	rec := Record{
		Key: key, Name: name, Created: n.cfg.Now().UTC(), Spec: spec, Desired: triton.StatusCreated, Node: n.cfg.Name,
		Endpoint: triton.Endpoint{Slot: -1}, Networks: networks, Placement: &decision,
	}
	c, err := n.acquire(ctx, rec, plan)
	for range nameAttempts { // another create may have picked the same name in the meantime
		if !generated || !errdefs.IsAlreadyExists(err) {
			break
		}
		rec.Name = n.freeName(tenant)
		n.cfg.Placement.Rename(key, rec.Name)
		c, err = n.acquire(ctx, rec, plan)
	}
	if err != nil {
		return fail(n.explainConflict(tenant, name, err))
	}
	n.insert(c)
	for _, r := range plan.anonymous {
		n.publish(n.volumeEvent("create", r.Key, nil))
	}
	n.publish(c.event("create", rec.Created, nil))
	return key, warnings, nil
}

// markContainer writes the file by which programs know that they run in a container of docker's. upper is new: nothing of the
// container's is in it.
func markContainer(upper string, ids triton.IDRange) error {
	name := filepath.Join(upper, archive.MarkFile)
	err := os.WriteFile(name, nil, 0o755)
	if err == nil {
		err = os.Chown(name, int(ids.Base), int(ids.Base))
	}
	if err != nil {
		return fmt.Errorf("mark container: %w", err)
	}
	return nil
}

// checkSpec refuses what no container here can be, and fills in what has a default.
func (n *Node) checkSpec(tenant triton.Tenant, spec *triton.Spec) error {
	if len(spec.Argv()) == 0 || spec.ImageID == "" {
		return kindf(errdefs.ErrInvalidArgument, "no command or no image specified")
	}
	if spec.Init {
		if _, err := os.Stat(n.cfg.InitPath); err != nil {
			return kindf(errdefs.ErrFailedPrecondition, "HostConfig.Init: the init program is not installed: %v", err)
		}
	}
	if spec.Log.Driver == "" {
		spec.Log.Driver = triton.LogJSONFile
	}
	if err := checkMachine(spec, n.cfg.Limits); err != nil {
		return err
	}
	if err := checkWatchLabel(spec); err != nil {
		return err
	}
	_, _, err := n.joinedUser(tenant, spec)
	return err
}

// checkMachine refuses what this machine cannot give, with docker's texts.
func checkMachine(s *triton.Spec, lim runtime.Limits) error {
	if _, _, err := runtime.Resources(s.Resources, lim); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		if m.Type != triton.MountBind || m.CreateSource {
			continue
		}
		if _, err := os.Stat(m.Source); errors.Is(err, os.ErrNotExist) {
			return kindf(errdefs.ErrInvalidArgument, "invalid mount config for type %q: bind source path does not exist: %s", triton.MountBind, m.Source)
		}
	}
	return nil
}

// nameAttempts bounds how often a made-up name may turn out to be taken.
const nameAttempts = 10

// acquire takes the container's lifelong belongings and records the intent, or undoes what it took.
func (n *Node) acquire(ctx context.Context, rec Record, plan *volumePlan) (*container, error) {
	ops, err := plan.anonymousOps()
	if err != nil {
		return nil, err
	}
	if rec.Endpoint, rec.IDs, err = n.takeEndpoint(ctx, &rec); err != nil {
		return nil, err
	}
	if rec.Spec.Hostname == "" && rec.Spec.UTSMode != triton.ModeHost {
		rec.Spec.Hostname = n.defaultHostname(&rec)
	}
	c := newContainer(n.cfg.DataRoot, rec, 0)
	if err := n.populateLater(c); err != nil {
		return nil, errors.Join(err, n.releaseBelongings(context.WithoutCancel(ctx), c))
	}
	// The two slow parts are two syncs to disk, of etcd's log and of the snapshot database: let them overlap.
	var g errgroup.Group
	var recorded bool
	g.Go(func() error {
		rootfs, err := n.cfg.Images.Prepare(ctx, rec.Key, rec.Spec.ImageID, rec.IDs)
		if err != nil {
			return fmt.Errorf("prepare file system of %s: %w", rec.Key, err)
		}
		if err := markContainer(rootfs.Upper, rec.IDs); err != nil {
			return err
		}
		if err := n.prepareImages(ctx, c); err != nil {
			return err
		}
		return os.MkdirAll(c.dataDir, 0o711)
	})
	g.Go(func() (err error) {
		c.revision, err = n.intent.create(ctx, &rec, ops...)
		recorded = err == nil
		return err
	})
	if err = g.Wait(); err == nil {
		for _, r := range plan.anonymous {
			n.vols.put(r)
		}
		err = n.populated(ctx, c)
	}
	if err != nil {
		undo := context.WithoutCancel(ctx)
		if recorded {
			err = errors.Join(err, n.removeIntent(undo, &rec, plan.anonymous))
		}
		return nil, errors.Join(err, n.releaseBelongings(undo, c))
	}
	return c, nil
}

// takeEndpoint reserves a namespace pair where the spec asks for namespaces of its own.
func (n *Node) takeEndpoint(ctx context.Context, rec *Record) (triton.Endpoint, triton.IDRange, error) {
	none := triton.Endpoint{Slot: -1}
	owner, joins, err := n.joinedUser(rec.Key.Tenant, &rec.Spec)
	if err != nil || strings.HasPrefix(rec.Spec.NetworkMode, triton.ContainerModePrefix) {
		return none, owner.IDs, err // the joined user namespace decides the ids
	}
	own := ownDefault(rec.Key.Tenant) && bridgeMode(&rec.Spec)
	kind, ok := endpointKind(&rec.Spec, own, rec.Spec.UserNamespace() && (!joins || owner.NS != ""))
	if !ok {
		return none, triton.IDRange{}, nil
	}
	ep, err := n.cfg.Network.Take(ctx, rec.Key, kind, owner, rec.Spec.BridgeMAC)
	if err != nil {
		return none, triton.IDRange{}, fmt.Errorf("take network of %s: %w", rec.Key, err)
	}
	if own {
		ep.Network = triton.NetworkLeft
	}
	return ep, ep.IDs, nil
}

// endpointKind says which namespace pair a spec needs, with or without a user namespace; false: none, it uses the host's
// network. own: the default network of its tenant is not the instance's.
func endpointKind(s *triton.Spec, own, user bool) (network.Kind, bool) {
	switch {
	case s.NetworkMode == triton.ModeHost:
		return 0, false
	case bridgeMode(s) && !own:
		if user {
			return network.Bridged, true
		}
		return network.BridgedHostUser, true
	default: // none; or a network whose interface comes at the start
		if user {
			return network.Isolated, true
		}
		return network.IsolatedHostUser, true
	}
}

// joinedUser is the user namespace of the containers whose namespaces the spec joins: these belong to it, so the container
// shares it too, unless it is to have none at all. joins reports whether it shares one, be it the host's. Two cannot be
// shared at once.
func (n *Node) joinedUser(tenant triton.Tenant, s *triton.Spec) (owner network.User, joins bool, err error) {
	from := ""
	for _, mode := range []string{s.NetworkMode, s.PidMode, s.IpcMode} {
		id, ok := strings.CutPrefix(mode, triton.ContainerModePrefix)
		if !ok {
			continue
		}
		other, err := n.get(triton.ContainerKey{Tenant: tenant, ID: id})
		if err != nil {
			return owner, true, err
		}
		if !s.UserNamespace() {
			continue
		}
		ns, err := n.userNSOf(other)
		if err != nil {
			return owner, true, err
		}
		if joins && ns != owner.NS {
			return owner, true, kindf(errdefs.ErrInvalidArgument,
				"%s and %s have user namespaces of their own: joining both needs --userns host", from, mode)
		}
		owner, joins, from = network.User{NS: ns, IDs: other.rec.IDs}, true, mode
	}
	return owner, joins, nil
}

// explainConflict turns a taken name into docker's message, which names the holder.
func (n *Node) explainConflict(tenant triton.Tenant, name string, err error) error {
	if !errdefs.IsAlreadyExists(err) {
		return err
	}
	n.mu.Lock()
	holder := n.names[nameKey{tenant, name}]
	n.mu.Unlock()
	return kindf(errdefs.ErrAlreadyExists, "Conflict. The container name %q is already in use by container %q. "+
		"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, holder.ID)
}

// defaultHostname is the short id, or the name of whose network is used: the host's, or another container's, as in
// docker.
func (n *Node) defaultHostname(rec *Record) string {
	if id, ok := strings.CutPrefix(rec.Spec.NetworkMode, triton.ContainerModePrefix); ok {
		if other, err := n.get(triton.ContainerKey{Tenant: rec.Key.Tenant, ID: id}); err == nil {
			return other.rec.Spec.Hostname
		}
	}
	if rec.Spec.NetworkMode == triton.ModeHost {
		if h, err := os.Hostname(); err == nil {
			return h
		}
	}
	return triton.ShortID(rec.Key.ID)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
