package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Tritond is one instance of the daemon under test, with roots, subnet and name of its own. It may be killed and
// started again; what it started lives on meanwhile.
type Tritond struct {
	Bin      string // folder of tritond and triton-shim
	Root     string // short: socket paths are limited to 108 bytes
	DataRoot string
	RunRoot  string
	Instance string
	Subnet   string
	Host     string   // unix://…
	HTTP     string   // 127.0.0.1:port
	Extra    []string // further flags
	Within   []string // what tritond is started by, for example nsenter and its arguments; empty: directly
	LogLevel string
	Account  *Account // nil: CPU time is not counted
	proc     *process
	links    map[string]bool // host links ever seen to be its
}

// NewTritond makes the folders of an instance; nothing runs yet.
func NewTritond(bin string, extra ...string) (*Tritond, error) {
	if _, err := os.Stat(filepath.Join(bin, "tritond")); err != nil {
		return nil, fmt.Errorf("tritond is not built: %w", err)
	}
	root, err := os.MkdirTemp("/tmp", "te")
	if err != nil {
		return nil, err
	}
	// Users inside containers are not root outside: they must be able to pass.
	if err := os.Chmod(root, 0o711); err != nil {
		return nil, err
	}
	subnet, err := freeSubnet()
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	run := filepath.Join(root, "run")
	d := &Tritond{
		Bin: bin, Root: root, DataRoot: filepath.Join(root, "data"), RunRoot: run,
		Instance: "te" + randomHex(4), Subnet: subnet, HTTP: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Host: "unix://" + filepath.Join(run, "docker.sock"), Extra: extra, LogLevel: "debug", links: map[string]bool{},
	}
	return d, d.writeOwner()
}

// Start starts the daemon and waits until it serves. Every system call is counted, however busy the machine is, unless Extra has
// another --probes.
func (d *Tritond) Start(ctx context.Context) error {
	args := append([]string{filepath.Join(d.Bin, "tritond"), "--data-root", d.DataRoot, "--run-root", d.RunRoot,
		"--instance", d.Instance, "-H", d.Host, "--http", d.HTTP, "--bridge-subnet", d.Subnet, "--log-level", d.LogLevel, "--core-pattern", "keep",
		"--probes", "detail"}, d.Extra...)
	args = append(slices.Clone(d.Within), args...)
	p, err := start(d.Account.Wrap(args), d.LogPath(), nil)
	if err != nil {
		return fmt.Errorf("start tritond: %w", err)
	}
	d.proc = p
	if err := p.ready(ctx, strings.TrimPrefix(d.Host, "unix://")); err != nil {
		return fmt.Errorf("start tritond: %w\n%s", err, d.Log())
	}
	return nil
}

// LogPath is where the output of all its daemons goes.
func (d *Tritond) LogPath() string { return filepath.Join(d.Root, "tritond.log") }

// Log returns the end of the daemon's output.
func (d *Tritond) Log() string { return tail(d.LogPath(), 6000) }

// Pid is the daemon's.
func (d *Tritond) Pid() int { return d.proc.pid() }

// Kill ends the daemon by SIGKILL and waits until it is gone.
func (d *Tritond) Kill() error { return d.proc.signal(syscall.SIGKILL, 10*time.Second) }

// Stop ends the daemon by SIGTERM; its containers run on.
func (d *Tritond) Stop() error { return d.proc.signal(syscall.SIGTERM, 20*time.Second) }

// Shims returns the processes that serve containers beside the daemon: shims, idle ones too, and the keeper.
func (d *Tritond) Shims() []int {
	return Pids(func(pid int) bool {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if filepath.Base(exe) != "triton-shim" {
			return false
		}
		return d.owns(pid)
	})
}

// owns reports whether a process belongs to the instance by its arguments or cgroup.
func (d *Tritond) owns(pid int) bool {
	return InCgroup(pid, d.Cgroup()) || containsPath(Cmdline(pid), d.Root)
}

// Cgroup is the name of the top-level cgroup of the instance.
func (d *Tritond) Cgroup() string { return "triton-" + d.Instance }

// Close stops the daemon, purges the instance, removes the root and returns an error that names all that is left of
// the instance on the machine.
func (d *Tritond) Close(ctx context.Context) error {
	var err error
	if d.proc != nil {
		err = d.Stop()
	}
	err = errors.Join(err, d.Purge(ctx), d.leftovers())
	if err != nil {
		// Keep the folder: it is what explains the failure. What still runs would disturb all later tests.
		for _, pid := range Pids(d.owns) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
		}
		return fmt.Errorf("instance %s (%s): %w", d.Instance, d.Root, err)
	}
	return os.RemoveAll(d.Root)
}

// CloseWithin is Close with a limit of time.
func (d *Tritond) CloseWithin(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return d.Close(ctx)
}

// Purge has tritond remove all that is of the instance but the data root, with no daemon running.
func (d *Tritond) Purge(ctx context.Context) error {
	d.rememberLinks()
	args := append(slices.Clone(d.Within), filepath.Join(d.Bin, "tritond"), "purge",
		"--data-root", d.DataRoot, "--run-root", d.RunRoot, "--instance", d.Instance)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tritond purge: %w\n%s", err, out)
	}
	return nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// FreePort finds a TCP port that nobody listens on now.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// freeSubnet picks a random /22 of 10.64.0.0/10 that no address of the machine lies in.
func freeSubnet() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for range 100 {
		b := make([]byte, 2)
		rand.Read(b)
		ip := net.IPv4(10, 64+b[0]%64, b[1]&^3, 0)
		subnet := &net.IPNet{IP: ip, Mask: net.CIDRMask(22, 32)}
		if !anyIn(subnet, addrs) {
			return subnet.String(), nil
		}
	}
	return "", errors.New("no free subnet found in 10.64.0.0/10")
}

func anyIn(subnet *net.IPNet, addrs []net.Addr) bool {
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && (subnet.Contains(n.IP) || n.Contains(subnet.IP)) {
			return true
		}
	}
	return false
}
