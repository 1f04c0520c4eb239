package main

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/placement"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/telemetry"
)

// config is everything the daemon can be told. Each flag is also read from TRITOND_<FLAG>, dashes as underscores, and
// from the file that --config names; the command line wins over the environment, that over the file.
type config struct {
	File         string
	DataRoot     string
	RunRoot      string
	Hosts        hostList
	HTTP         string
	BridgeSubnet string
	Instance     string
	LogLevel     string
	InsecureTCP  bool
	MinFree      byteSize
	ShimPath     string
	FavorDynMods bool
	PerSyscall   bool
	PerPeer      bool
	PerDevice    bool
	DNS          bool
	Network      bool
	PyroscopeURL string
	Pyroscope    string
	Probes       string
	ProbesBudget percentage
	Promises     string
	Labels       hostList
	CorePattern  string
	CoreCapture  string
	CoreQuota    byteSize
	CoreKeep     byteSize
	// MaxContainers bounds the containers that run at a time: the slots of the probes.
	MaxContainers bounded
	CoreMaxHold   span
	CoreCPU       percentage
	// APICPU bounds what the requests of a tenant's clients take, APIWaiting how many of them wait, and APIConnections how many connections they have.
	APICPU         percentage
	APIWaiting     bounded
	APIConnections bounded
	// RecorderThreads bounds the threads whose last system calls are kept.
	RecorderThreads bounded
	// Remotes bounds whom containers talk to, of all together, and RemotesEach of one.
	Remotes     bounded
	RemotesUDP  bool
	RemotesEach bounded

	InsecureRegistries hostList
	RegistryCerts      string

	// from tells where a setting comes from, by flag: as the command line has it where it is not in here.
	from map[string]string
}

// hostList is the repeatable -H, and what else is repeatable.
type hostList []string

func (h *hostList) String() string     { return strings.Join(*h, ",") }
func (h *hostList) Set(s string) error { *h = append(*h, s); return nil }

// byteSize is a number of bytes, also as 512m or 2GiB.
type byteSize uint64

func (b *byteSize) String() string { return strconv.FormatUint(uint64(*b), 10) }

func (b *byteSize) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return errors.New("must be a number of bytes, such as 268435456 or 256m")
	}
	*b = byteSize(n)
	return nil
}

// span is a time that something may take.
type span time.Duration

func (d *span) String() string { return time.Duration(*d).String() }

func (d *span) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return errors.New("must be a time such as 90s or 2m, more than nothing")
	}
	*d = span(v)
	return nil
}

// percentage is a part of something, 0 to 100.
type percentage float64

// String is the number in decimal, without a sign.
func (p *percentage) String() string { return strconv.FormatFloat(float64(*p), 'g', -1, 64) }

// Set reads a number.
func (p *percentage) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 100) { // NaN is neither
		return errors.New("must be a number from 0 to 100")
	}
	*p = percentage(v)
	return nil
}

// bounded is a number that must be within bounds.
type bounded struct{ n, least, most int }

// String is the number in decimal.
func (b *bounded) String() string { return strconv.Itoa(b.n) }

// Set reads a number.
func (b *bounded) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < b.least || v > b.most {
		return fmt.Errorf("must be a number from %d to %d", b.least, b.most)
	}
	b.n = v
	return nil
}

// probesAuto is the value of --probes with which the level steps by itself.
const probesAuto = "auto"

// Values of --core-pattern.
const (
	corePatternTake = "take"
	corePatternKeep = "keep"
)

const (
	defaultDataRoot = "/var/lib/tritond"
	defaultRunRoot  = "/run/tritond"
	// defaultRegistryCerts is where docker's users have them.
	defaultRegistryCerts = "/etc/docker/certs.d"
	// defaultMinFree leaves etcd and containerd room to delete things when the volume is full.
	defaultMinFree = 256 << 20
	// defaultCoreQuota is what most services fit in.
	defaultCoreQuota = 4 << 30
	// defaultCoreKeep is what a tenant may have of them.
	defaultCoreKeep    = 16 << 30
	defaultCoreMaxHold = span(2 * time.Minute)
	// defaultCoreCPU is four crashes of small programs a second, about.
	defaultCoreCPU = 5
	// defaultAPICPU is, of two processors, a list of 1,000 containers 150 times a second, or 20 containers from create to remove.
	defaultAPICPU = 10
	// defaultAPIWaiting is what compose asks for at once of some hundred containers; mostAPIWaiting take a gigabyte of connections.
	defaultAPIWaiting, mostAPIWaiting = 1024, 1 << 15
	// defaultAPIConnections is four for each container that there may be; mostAPIConnections are all that a process may have.
	defaultAPIConnections, mostAPIConnections = 4096, 1 << 20
	// defaultMaxContainers is what one network takes, about; mostContainers is how many ranges of ids there are.
	defaultMaxContainers, mostContainers = 1024, 4096
	// defaultRecorderThreads take 20 MiB of kernel memory.
	defaultRecorderThreads = 4096
	// defaultRemotes take 8 MiB of kernel memory when there are so many, a third of it from the start on.
	defaultRemotes, mostRemotes = 16384, 1 << 20
	// defaultRemotesEach leaves room for others where one container talks to everybody.
	defaultRemotesEach = 1024
	// defaultProbesBudget is what a service at full load may lose to observation.
	defaultProbesBudget = 3
)

// flags declares every flag on fs.
func (c *config) flags(fs *flag.FlagSet) {
	c.MinFree = defaultMinFree
	c.MaxContainers = bounded{defaultMaxContainers, 1, mostContainers}
	c.RecorderThreads = bounded{defaultRecorderThreads, 0, probes.RecorderThreadsMax}
	c.Remotes, c.RemotesEach = bounded{defaultRemotes, 0, mostRemotes}, bounded{defaultRemotesEach, 1, mostRemotes}
	c.ProbesBudget = defaultProbesBudget
	c.CoreQuota, c.CoreKeep, c.CoreMaxHold, c.CoreCPU = defaultCoreQuota, defaultCoreKeep, defaultCoreMaxHold, defaultCoreCPU
	c.APICPU, c.APIWaiting = defaultAPICPU, bounded{defaultAPIWaiting, 1, mostAPIWaiting}
	c.APIConnections = bounded{defaultAPIConnections, 1, mostAPIConnections}
	fs.StringVar(&c.File, "config", "", "file of settings: a JSON object whose keys are the flags, hosts for -H; empty: none")
	fs.StringVar(&c.DataRoot, "data-root", defaultDataRoot, "directory of everything that must outlive a reboot")
	fs.StringVar(&c.RunRoot, "run-root", defaultRunRoot, "directory of sockets and run-time state, best on tmpfs")
	fs.Var(&c.Hosts, "H", "address of the Docker API, unix://PATH or tcp://HOST:PORT; repeatable (default unix://RUN-ROOT/docker.sock)")
	fs.StringVar(&c.HTTP, "http", "127.0.0.1:8080", "address of the dashboard, /metrics and /healthz; empty: none")
	fs.StringVar(&c.BridgeSubnet, "bridge-subnet", "172.30.0.0/16", "IPv4 subnet of the bridge that containers get addresses from")
	fs.StringVar(&c.Instance, "instance", "", "name in our cgroups, bridge, nft table and pins (default: from the data root)")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.BoolVar(&c.InsecureTCP, "insecure-tcp", false,
		"serve the Docker API on tcp:// without TLS and client certificates: everyone who can connect is root here")
	fs.Var(&c.MinFree, "min-free",
		"bytes that must stay free on the data root's volume: below it, new containers and images are refused")
	fs.BoolVar(&c.PerSyscall, "metrics-per-syscall", false,
		"serve count, errors and latency of each system call on /metrics: some hundred series more per container")
	fs.BoolVar(&c.PerPeer, "metrics-per-peer", false,
		"serve on /metrics whom containers talk to: some ten series more per peer, at most 21 peers a container")
	fs.BoolVar(&c.DNS, "metrics-dns", false,
		"see what containers ask name servers by UDP, for triton dns, and serve codes and times on /metrics: a look at each of their packets")
	fs.BoolVar(&c.PerDevice, "metrics-per-device", false,
		"serve latency and bytes of block I/O by device and direction on /metrics: ten series more for each of both that a container uses")
	fs.BoolVar(&c.Network, "metrics-network", false,
		"count times to connect, round trips, failed connects, resets and dropped packets, and serve them on /metrics: some 30 series more per container")
	fs.StringVar(&c.Probes, "probes", probesAuto,
		"what is measured of containers: detail (all), sampled (system calls 1 s of every 10), counters (no system calls), off (no run queue either), "+
			"auto: the first of detail, sampled and counters that --probes-budget pays for")
	fs.Var(&c.ProbesBudget, "probes-budget", "what observation may cost before --probes auto steps down, in per cent of the time in which processors are busy")
	fs.StringVar(&c.Promises, "promises", string(placement.PromiseReservations),
		"what is refused where this machine cannot keep it: reservations (--memory-reservation, label triton.cpu.min), limits too, or none")
	fs.Var(&c.Labels, "label", "KEY=VALUE that tells of this machine, for constraints and docker info; repeatable")
	fs.StringVar(&c.PyroscopeURL, "pyroscope-url", "", "Pyroscope server that the daemon uploads profiles of itself to; empty: none")
	fs.StringVar(&c.Pyroscope, "pyroscope", "", "Pyroscope server that profiles of all containers are uploaded to, every 15 s; empty: none")
	fs.BoolVar(&c.FavorDynMods, "favordynmods", false,
		"mount cgroup2 with favordynmods: starts are some 9 ms faster, forks and exits a little slower; stays until reboot")
	fs.Var(&c.InsecureRegistries, "insecure-registry",
		"HOST, HOST:PORT or network whose registries may have any certificate, or none; repeatable; loopback is always")
	fs.StringVar(&c.RegistryCerts, "registry-certs", defaultRegistryCerts,
		"directory with a directory HOST:PORT per registry: *.crt are authorities, NAME.cert and NAME.key a client certificate")
	fs.StringVar(&c.CorePattern, "core-pattern", corePatternTake,
		"take: point kernel.core_pattern at this daemon while it runs, and give it back at its end; keep: no dumps of crashes")
	fs.StringVar(&c.CoreCapture, "core-capture", coredump.FormAuto,
		"how the kernel hands a crash over: socket (Linux 6.17 or newer), pipe, or auto: the socket where there is one")
	fs.Var(&c.CoreQuota, "core-quota", "bytes on disk that the memory of one dump may take")
	fs.Var(&c.MaxContainers, "max-containers",
		"containers that may run at a time, at most 4096; each takes 15 KiB of kernel memory per CPU of up to four, from the start on")
	fs.Var(&c.RecorderThreads, "recorder-threads",
		"threads whose last 64 system calls are kept, at level detail; each takes 5.1 KiB of kernel memory, from the start on; 0: none")
	fs.Var(&c.Remotes, "remotes",
		"remotes (address and port) that are counted, of all containers together, and open connections; 0: none are")
	fs.BoolVar(&c.RemotesUDP, "remotes-udp", true, "count datagrams of UDP by remote, too: a look at each packet of containers")
	fs.Var(&c.RemotesEach, "remotes-each", "remotes that are counted of one container; what finds no room is added up as its rest")
	fs.Var(&c.CoreKeep, "core-keep", "bytes on disk that all core dumps of one tenant may take; the oldest go first")
	fs.Var(&c.CoreMaxHold, "core-max-hold", "how long a crashed process may be held while its memory is saved")
	fs.Var(&c.CoreCPU, "core-cpu",
		"per cent of a processor that the crashes of one container may take in the long run; beyond that, repeats are only counted; 0: no bound")
	fs.Var(&c.APICPU, "api-cpu",
		"per cent of the machine's processors that the requests of one tenant may take in the long run, operators' excepted; beyond that, they wait; 0: no bound")
	fs.Var(&c.APIWaiting, "api-waiting", "requests of one tenant that may wait; more are refused")
	fs.Var(&c.APIConnections, "api-connections",
		"connections by TLS that one tenant may have open at a time, idle ones too, operators' excepted; more are refused")
	fs.StringVar(&c.ShimPath, "shim", "", "path of triton-shim (default: beside this program)")
}

// parseConfig reads the command line, the environment and the file, and lists every mistake in them, a line each.
// flag.ErrHelp: usage was printed.
func parseConfig(name string, args []string, env func(string) (string, bool), out io.Writer) (config, error) {
	c := config{from: map[string]string{}}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.flags(fs)
	errs := parseArguments(fs, args)
	if slices.Contains(errs, flag.ErrHelp) {
		fs.SetOutput(out)
		fs.Usage()
		return c, flag.ErrHelp
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		name := "TRITOND_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v, ok := env(name)
		if !ok || given[f.Name] {
			return
		}
		given[f.Name], c.from[f.Name] = true, name
		if err := f.Value.Set(v); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, v, plain(err)))
		}
	})
	if c.File != "" {
		errs = append(errs, c.readFile(fs, given)...)
	}
	c.complete()
	return c, errors.Join(append(errs, c.validate())...)
}

// parseArguments goes on after a bad value, so that all of them are told.
func parseArguments(fs *flag.FlagSet, args []string) (errs []error) {
	for {
		err := fs.Parse(args)
		if err == nil {
			break
		}
		errs = append(errs, err)
		if errors.Is(err, flag.ErrHelp) || fs.NArg() == 0 || fs.NArg() == len(args) {
			return errs
		}
		args = fs.Args()
	}
	if fs.NArg() > 0 && len(errs) == 0 { // after a mistake it may be the value of a flag that there is not
		errs = append(errs, fmt.Errorf("unexpected argument %q", fs.Arg(0)))
	}
	return errs
}

// plain says what package flag calls a parse error.
func plain(err error) error {
	if err.Error() == "parse error" {
		return errors.New("must be true or false")
	}
	return err
}

// complete fills in what follows from other settings.
func (c *config) complete() {
	c.DataRoot, c.RunRoot = absolute(c.DataRoot), absolute(c.RunRoot)
	if c.Instance == "" {
		c.Instance = instanceOf(c.DataRoot)
	}
	if len(c.Hosts) == 0 {
		c.Hosts = hostList{"unix://" + filepath.Join(c.RunRoot, "docker.sock")}
	}
	if c.ShimPath == "" {
		if exe, err := os.Executable(); err == nil {
			c.ShimPath = filepath.Join(filepath.Dir(exe), "triton-shim")
		}
	}
}

func absolute(p string) string {
	if a, err := filepath.Abs(p); err == nil {
		return a
	}
	return p
}

// instanceOf names the daemon of a data root: main for the default one, else its last element and a hash of the path.
func instanceOf(dataRoot string) string {
	if dataRoot == defaultDataRoot {
		return "main"
	}
	h := fnv.New32a()
	h.Write([]byte(dataRoot))
	return fmt.Sprintf("i%08x", h.Sum32())
}

var (
	instanceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)
	// maxSocketPath is sun_path's size less its terminating zero (unix(7)).
	maxSocketPath = 107
	// longestSocket is the longest path below the run root that we make a socket at.
	longestSocket = len("/shims/") + 32 + len(".sock")
)

// validate reports every mistake at once, one line each.
func (c *config) validate() error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s "+format, append([]any{c.name(flag)}, args...)...))
	}
	if !instanceName.MatchString(c.Instance) {
		bad("instance", "%q: use 1 to 31 of a-z, 0-9 and dashes", c.Instance)
	}
	if len(c.RunRoot)+longestSocket > maxSocketPath {
		bad("run-root", "%s: too long, sockets below it would exceed %d characters", c.RunRoot, maxSocketPath)
	}
	if forms := []string{coredump.FormAuto, coredump.FormSocket, coredump.FormPipe}; !slices.Contains(forms, c.CoreCapture) {
		bad("core-capture", "%q: must be auto, socket or pipe", c.CoreCapture)
	}
	if c.CorePattern != corePatternTake && c.CorePattern != corePatternKeep {
		bad("core-pattern", "%q: must be take or keep", c.CorePattern)
	}
	if c.DataRoot == c.RunRoot {
		bad("data-root", "must differ from --run-root")
	}
	if p, err := netip.ParsePrefix(c.BridgeSubnet); err != nil || !p.Addr().Is4() || p.Bits() > 29 || p.Masked() != p {
		bad("bridge-subnet", "%q: must be an IPv4 network such as 172.30.0.0/16, /29 at the smallest", c.BridgeSubnet)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		bad("log-level", "%q: must be debug, info, warn or error", c.LogLevel)
	}
	if c.HTTP != "" {
		if _, port, err := net.SplitHostPort(c.HTTP); err != nil || !validPort(port) {
			bad("http", "%q: must be HOST:PORT", c.HTTP)
		}
	}
	if err := (image.RegistryConfig{Insecure: c.InsecureRegistries}).Validate(); err != nil {
		bad("insecure-registry", "%w", err)
	}
	if c.PyroscopeURL != "" {
		if err := telemetry.CheckPyroscopeURL(c.PyroscopeURL); err != nil {
			bad("pyroscope-url", "%q: %w", c.PyroscopeURL, err)
		}
	}
	if c.Pyroscope != "" {
		if err := telemetry.CheckPyroscopeURL(c.Pyroscope); err != nil {
			bad("pyroscope", "%q: %w", c.Pyroscope, err)
		}
	}
	if c.Probes != probesAuto && probes.Level(c.Probes).Validate() != nil {
		bad("probes", "%q: must be auto, detail, sampled, counters or off", c.Probes)
	}
	if c.PerPeer && c.Remotes.n == 0 {
		bad("metrics-per-peer", "needs --remotes other than 0")
	}
	if placement.Promises(c.Promises).Validate() != nil {
		bad("promises", "%q: must be none, reservations or limits", c.Promises)
	}
	for _, l := range c.Labels {
		if _, _, err := machineLabel(l); err != nil {
			bad("label", "%q: %w", l, err)
		}
	}
	for _, h := range c.Hosts {
		if err := checkHost(h); err != nil {
			bad("H", "%q: %w", h, err)
		}
	}
	return errors.Join(errs...)
}

// probesLevel is how the probes take --probes and --probes-budget.
func (c *config) probesLevel() (probes.Level, probes.Budget) {
	if c.Probes == probesAuto {
		return "", probes.Budget{Auto: true, Share: float64(c.ProbesBudget) / 100}
	}
	return probes.Level(c.Probes), probes.Budget{}
}

// machineLabel reads KEY=VALUE; a constraint must be able to name KEY.
func machineLabel(text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if c, err := sched.ParseConstraint("constraint:" + key + "==x"); !ok || err != nil || c.Kind != sched.OnNodeLabel {
		return "", "", errors.New("must be KEY=VALUE, KEY of letters, digits and . - _ / and not node")
	}
	return key, value, nil
}

// validPort takes numbers only: a name would be another port on another machine.
func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// checkHost verifies one -H.
func checkHost(h string) error {
	u, err := url.Parse(h)
	switch {
	case err != nil:
		return errors.Unwrap(err) // url.Error repeats h
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		if len(u.Path) > maxSocketPath {
			return fmt.Errorf("path exceeds %d characters", maxSocketPath)
		}
		return nil
	case u.Scheme == "tcp" && validPort(u.Port()) && u.Path == "" && u.User == nil && u.RawQuery == "":
		return nil
	}
	return errors.New("must be unix:///PATH or tcp://HOST:PORT")
}
