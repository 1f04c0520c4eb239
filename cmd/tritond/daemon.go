package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/cgroup"
	"github.com/tritond/triton/pkg/cluster"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/dashboard"
	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/dockerapi"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/journal"
	"github.com/tritond/triton/pkg/network"
	"github.com/tritond/triton/pkg/node"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/procfs"
	"github.com/tritond/triton/pkg/profile"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/throttle"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi"
	"github.com/tritond/triton/pkg/tritonapi/wire"
	"github.com/tritond/triton/pkg/volume"
)

// daemon is all parts, assembled. It contains no logic of its own: it starts them in order and stops them in reverse.
type daemon struct {
	cfg    config
	log    *slog.Logger
	roots  *roots
	static triton.NodeInfo

	imageChanges atomic.Uint64 // counts events of images: each may change what lists show

	cgroups     *cgroup.FS
	journal     *journal.Set
	cluster     *cluster.Cluster
	images      *image.Store
	network     *network.Network
	probes      *probes.Probes
	telemetry   *telemetry.Store
	placement   *placement.Placement
	profiles    *telemetry.Pyroscope // nil: none are wanted
	taker       *profile.Taker
	pusher      *profile.Pusher // nil: not wanted
	runtime     *runtime.Runtime
	volumes     *volume.Store
	node        *node.Node
	access      *auth.Authority
	page        *dashboard.Hub // nil: no --http
	ca          *auth.CA
	deaths      *death.Store
	groups      *crashgroup.Store
	cores       *coredump.Service
	corePattern *coredump.Pattern // nil: kernel.core_pattern was not taken
}

// serve runs the daemon until ctx is done.
func serve(ctx context.Context, cfg config, log *slog.Logger) (err error) {
	begun := time.Now()
	d := &daemon{cfg: cfg, log: log}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := mapByPage(); err != nil {
		log.Debug("more of the program is resident than is used", "err", err)
	}
	if err := d.open(ctx); err != nil {
		return err
	}
	listeners, err := d.listen(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.probes.Run(gctx) })
	g.Go(func() error { return d.telemetry.Run(gctx) })
	g.Go(func() error { return d.placement.Run(gctx) })
	g.Go(func() error { return d.pushProfiles(gctx) })
	if d.profiles != nil {
		g.Go(func() error { return d.profiles.Run(gctx) })
	}
	g.Go(func() error { return d.network.Run(gctx) })
	g.Go(func() error { return d.runtime.Run(gctx) })
	g.Go(func() error { return d.node.Run(gctx) })
	if err := d.node.Reconcile(gctx); err != nil {
		closeAll(listeners)
		return errors.Join(err, d.stopParts(g))
	}
	if cfg.CorePattern == corePatternTake { // after Reconcile: crashes that waited for a daemon belong to containers it knows
		d.takeCores(gctx)
		g.Go(func() error { return d.cores.Run(gctx) })
	}
	for _, l := range listeners {
		g.Go(func() error { return l.run(gctx, log) })
	}
	log.Info("serving", "instance", cfg.Instance, "hosts", cfg.Hosts.String(), "http", cfg.HTTP,
		"version", version, "after", time.Since(begun).Round(time.Millisecond))
	if text, err := d.welcome(time.Since(begun).Round(time.Millisecond).String()); err != nil {
		log.Error("list of changes on the host", "err", err)
	} else {
		fmt.Print(text)
	}
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		log.Warn("tell systemd that the daemon is ready", "err", err)
	}
	return ignoreCanceled(ctx, g.Wait())
}

// stopParts ends what was started when a later step failed.
func (d *daemon) stopParts(g *errgroup.Group) error {
	g.Go(func() error { return context.Canceled })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// ignoreCanceled takes the end that was asked for as success.
func ignoreCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// mapByPage keeps what the daemon does not use of its own program out of its memory: half of it.
func mapByPage() error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	return procfs.MapByPage(path)
}

// open makes the parts. The slow ones wait for disks and the kernel, so they overlap.
func (d *daemon) open(ctx context.Context) (err error) {
	cfg, log := d.cfg, d.log
	if d.roots, err = openRoots(cfg); err != nil {
		return err
	}
	if d.cgroups, err = cgroup.Detect(); err != nil {
		return err
	}
	if cfg.FavorDynMods {
		if err := d.cgroups.FavorDynMods(); err != nil {
			return err
		}
		log.Warn("cgroup2 is mounted with favordynmods until reboot")
	}
	if d.static, err = staticInfo(cfg, d.roots.nodeID, d.cgroups.Version()); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() (err error) {
		d.cluster, err = cluster.Open(ctx, cluster.Config{
			Dir: filepath.Join(cfg.DataRoot, "etcd"), Name: cfg.Instance, MinFree: uint64(cfg.MinFree), Log: log.With("part", "etcd"),
		})
		return err
	})
	g.Go(func() (err error) {
		d.images, err = image.Open(ctx, image.Config{
			Root: filepath.Join(cfg.DataRoot, "containerd"), State: filepath.Join(cfg.RunRoot, "containerd"),
			MinFree: uint64(cfg.MinFree), Log: log.With("part", "images"), InUse: d.imageInUse, Running: d.imageRunning, Events: d.imageEvent,
			Registries: image.RegistryConfig{CertsDir: cfg.RegistryCerts, Insecure: cfg.InsecureRegistries, UserAgent: "triton/" + version},
		})
		return err
	})
	g.Go(func() (err error) {
		level, budget := cfg.probesLevel()
		d.probes, err = probes.Open(ctx, probes.Config{
			Peers: cfg.Remotes.n, PeersPerContainer: cfg.RemotesEach.n, Network: cfg.Network, PinDir: d.roots.pinDir, MaxContainers: cfg.MaxContainers.n,
			RecorderThreads: cfg.RecorderThreads.n, Level: level, Budget: budget, Stepped: d.levelStepped, Log: log.With("part", "probes"),
		})
		return err
	})
	g.Go(func() (err error) {
		d.network, err = network.Open(ctx, network.Config{
			Instance: cfg.Instance, Subnet: netip.MustParsePrefix(cfg.BridgeSubnet), RunRoot: cfg.RunRoot, Log: log.With("part", "network"),
		})
		return err
	})
	g.Go(func() (err error) {
		d.journal, err = journal.OpenSet(journal.Config{Dir: filepath.Join(cfg.DataRoot, "journal"), Node: d.static.Name, Log: log.With("part", "journal")})
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return d.openNode(ctx)
}

// openNode makes the parts that need others.
func (d *daemon) openNode(ctx context.Context) (err error) {
	cfg := d.cfg
	if err := d.openTelemetry(); err != nil {
		return err
	}
	if err := d.openPlacement(); err != nil {
		return err
	}
	d.access = auth.New(auth.Config{Store: credentials{d.cluster}, Now: time.Now, Log: d.log.With("part", "auth"), Instance: cfg.Instance})
	if d.ca, err = auth.OpenCA(filepath.Join(cfg.DataRoot, "tls"), cfg.Instance, time.Now); err != nil {
		return err
	}
	d.runtime, err = runtime.Open(ctx, runtime.Config{
		Instance: cfg.Instance, ShimPath: cfg.ShimPath, RunRoot: cfg.RunRoot, DataRoot: cfg.DataRoot, Version: version,
		Generation: d.roots.generation, BootID: d.roots.bootID, ExitMap: probes.ExitMapPath(d.roots.pinDir), Log: d.log.With("part", "runtime"),
		RegisterParent: d.probes.RegisterParent, ForgetParent: d.probes.ForgetParent,
	})
	if err != nil {
		return err
	}
	own := "/triton-" + cfg.Instance
	if _, err := d.cgroups.Make(own); err != nil {
		return err
	}
	limitsInfo(&d.static, d.cgroups, own)
	if dir := d.cgroups.UnifiedDir(own); dir == "" {
		d.log.Warn("no unified control groups: containers in networks of users know no names of one another")
	} else if err := d.network.StartResolver(dir, filepath.Join(d.roots.pinDir, "resolver")); err != nil {
		d.log.Error("containers in networks of users know no names of one another", "err", err)
	}
	if err := d.watchDatagrams(own); err != nil {
		return err
	}
	if err := d.watchNames(own); err != nil {
		return err
	}
	limits, err := runtime.DetectLimits(d.cgroups, own)
	if err != nil {
		return err
	}
	d.volumes, err = volume.Open(volume.Config{
		Root: filepath.Join(cfg.DataRoot, "volumes"), Run: filepath.Join(cfg.RunRoot, "volumes"), Log: d.log.With("part", "volumes"),
	})
	if err != nil {
		return err
	}
	if d.deaths, err = death.OpenStore(filepath.Join(cfg.DataRoot, "deaths"), death.DefaultKeep, time.Now); err != nil {
		return err
	}
	d.node = node.New(node.Config{
		Name: d.static.Name, Instance: cfg.Instance, DataRoot: cfg.DataRoot, RunRoot: cfg.RunRoot, Log: d.log, Now: time.Now,
		InitPath: filepath.Join(filepath.Dir(cfg.ShimPath), "triton-init"),
		Limits:   limits, Memory: d.static.MemTotal,
		Cluster: d.cluster, Journal: d.journal, Events: d.journal, Images: d.images, Network: d.network, Runtime: d.runtime,
		Probes: d.probes, Telemetry: d.telemetry, Placement: d.placement, Cgroups: d.cgroups, Volumes: d.volumes, Deaths: d.deaths,
	})
	d.taker = d.newTaker()
	return errors.Join(d.openCores(), d.newPusher(), d.telemetry.Register(relayMetrics{d.node}))
}

// watchDatagrams begins to count the datagrams of the containers in the instance's cgroup, unless that is not wanted.
func (d *daemon) watchDatagrams(own string) error {
	if !d.cfg.RemotesUDP {
		return nil
	}
	dir := d.cgroups.UnifiedDir(own)
	if dir == "" { // nor are connections anybody's
		d.log.Warn("datagrams are not counted: this machine has no unified control groups")
		return nil
	}
	return d.probes.WatchDatagrams(dir)
}

// watchNames begins to see what the containers in the instance's cgroup ask name servers, if that is wanted.
func (d *daemon) watchNames(own string) error {
	if !d.cfg.DNS {
		return nil
	}
	dir := d.cgroups.UnifiedDir(own)
	if dir == "" {
		return fmt.Errorf("--metrics-dns: this machine has no unified control groups: %w", errdefs.ErrFailedPrecondition)
	}
	return d.probes.WatchNames(dir)
}

// openTelemetry makes the store, and gives /metrics what other parts count.
func (d *daemon) openTelemetry() error {
	cfg := telemetry.Config{
		Node: d.static.Name, Log: d.log.With("part", "telemetry"), Drops: d.probes.Drops, Missing: d.missingProbes, PerSyscall: d.cfg.PerSyscall,
		Build: telemetry.Build{Version: version, Revision: commit, Go: goruntime.Version()}, Delays: d.probes.Delays,
	}
	if d.cfg.PerPeer {
		cfg.Peers, cfg.Names = d.probes.Peers, func() map[triton.ContainerKey]string { return d.node.Names() }
	}
	if d.cfg.DNS {
		cfg.NameService = d.probes.NameService
	}
	if d.cfg.PerDevice {
		cfg.Disks = d.probes.Disks
	}
	if d.cfg.Network {
		cfg.Network = d.probes.NetworkHealth
	}
	d.telemetry = telemetry.New(cfg)
	if err := d.telemetry.Register(journalMetrics(d.journal), probeMetrics{d.probes}, watchingMetrics{d.watchings}); err != nil {
		return err
	}
	if d.cfg.PyroscopeURL == "" {
		return nil
	}
	var err error
	d.profiles, err = telemetry.NewPyroscope(telemetry.PyroscopeConfig{URL: d.cfg.PyroscopeURL, Node: d.static.Name, Log: d.log.With("part", "profiles")})
	if err != nil {
		return err
	}
	return d.telemetry.Register(d.profiles)
}

// missingProbes names the programs that this kernel refused.
func (d *daemon) missingProbes() []string {
	var names []string
	for _, p := range d.probes.Missing() {
		names = append(names, p.Program)
	}
	return names
}

// imageInUse is asked by the image store, which is opened before the node.
func (d *daemon) imageInUse(ctx context.Context, tenant triton.Tenant, id string) ([]string, error) {
	return d.node.UsesImage(ctx, tenant, id)
}

// imageRunning is imageInUse for those that run.
func (d *daemon) imageRunning(ctx context.Context, tenant triton.Tenant, id string) ([]string, error) {
	return d.node.RunsImage(ctx, tenant, id)
}

// imageEvent journals what happens to images.
func (d *daemon) imageEvent(e triton.Event) {
	d.imageChanges.Add(1)
	e.Node = d.static.Name
	if _, err := d.journal.Append(e); err != nil {
		d.log.Error("event not journalled", "action", e.Action, "id", e.ID, "err", err)
	}
}

// close stops the parts in reverse. Containers, their shims, the keeper and the exit program go on.
func (d *daemon) close() error {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	if d.page != nil {
		add(d.page.Close())
	}
	if d.node != nil {
		add(d.node.Close())
	}
	if d.runtime != nil {
		add(d.runtime.Close())
	}
	if d.network != nil {
		add(d.network.Close())
	}
	if d.probes != nil {
		add(d.probes.Close())
	}
	if d.images != nil {
		add(d.images.Close())
	}
	if d.journal != nil {
		add(d.journal.Close())
	}
	if d.cluster != nil {
		add(d.cluster.Close())
	}
	if d.roots != nil {
		add(d.roots.Close())
	}
	return errors.Join(errs...)
}

// listener is one address and what is served there.
type listener struct {
	net.Listener
	server *http.Server
}

// listen opens every address before anything is served, so that a taken port is found at once.
func (d *daemon) listen(ctx context.Context) (ls []*listener, err error) {
	defer func() {
		if err != nil {
			closeAll(ls)
		}
	}()
	own := tritonapi.New(d.ownAPI())
	docker := dockerapi.New(dockerapi.Config{
		Backend: backend{Node: d.node, images: d.images, journal: d.journal, info: d.nodeInfo, changes: d.imageChanges.Load},
		Version: version, Log: d.log.With("part", "api"), Caller: caller,
		StorageDriver: d.static.StorageDriver,
		Extra:         func(mux *http.ServeMux) { mux.Handle(wire.Prefix, own.Handler()) },
	})
	requests, turns, conns := newRequestMetrics(), throttle.New(d.cfg.throttle()), throttle.NewConnections(d.cfg.APIConnections.n)
	if err := d.telemetry.Register(requests.total, requests.inFlight, throttleMetrics(turns), connectionMetrics(conns)); err != nil {
		return ls, err
	}
	for _, h := range d.cfg.Hosts {
		server := docker.HTTPServer(ctx)
		server.ConnContext = throttle.ConnContext
		server.Handler = turns.Handler(server.Handler, payer, effort(docker))
		l, err := d.guard(h, server, conns)
		if err != nil {
			return ls, err
		}
		server.Handler = requests.counted("docker", server.Handler)
		ls = append(ls, &listener{l, server})
	}
	if d.cfg.HTTP == "" {
		return ls, nil
	}
	page, err := d.web(own, turns)
	if err != nil {
		return ls, err
	}
	l, err := d.listenWeb()
	if err != nil {
		return ls, fmt.Errorf("listen on --http: %w", err)
	}
	return append(ls, &listener{l, &http.Server{
		Handler: requests.counted("page", page), ReadHeaderTimeout: headerTimeout, ConnContext: throttle.ConnContext,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}}), nil
}

// headerTimeout is how long a client may take to send its request's header.
const headerTimeout = 30 * time.Second

// listenHost opens one -H. A socket that a killed daemon left is replaced: the lock on the data root says it is ours.
func listenHost(h string) (net.Listener, error) {
	network, address := splitHost(h)
	if network == "tcp" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on -H %s: %w", h, err)
		}
		return l, nil
	}
	if err := removeDeadSocket(address); err != nil {
		return nil, fmt.Errorf("listen on -H %s: %w", h, err)
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, fmt.Errorf("listen on -H %s: %w", h, err)
	}
	if err := os.Chmod(address, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on -H %s: %w", h, err)
	}
	return l, nil
}

// run serves until ctx is done, then gives requests under way a moment and cuts the rest: streams never end by themselves.
func (l *listener) run(ctx context.Context, log *slog.Logger) error {
	done := make(chan error, 1)
	go func() { done <- l.server.Serve(l.Listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
	defer cancel()
	if err := l.server.Shutdown(grace); err != nil {
		log.Debug("requests cut", "address", l.Addr().String(), "err", err)
		l.server.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		log.Debug("serve", "address", l.Addr().String(), "err", err)
	}
	return ctx.Err()
}

func closeAll(ls []*listener) {
	for _, l := range ls {
		l.Close()
	}
}
