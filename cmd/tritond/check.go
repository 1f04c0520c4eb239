package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/host"
	"github.com/tritond/triton/pkg/probes"
	"github.com/tritond/triton/pkg/triton"
)

// errNotReady ends `tritond check` where something is missing; the table has said what.
var errNotReady = errors.New("this machine cannot run the daemon yet")

// check prints what this machine gives a daemon of cfg.
func check(ctx context.Context, cfg config) error {
	hc := host.Config{DataRoot: cfg.DataRoot, MinFree: uint64(cfg.MinFree), Running: locked(cfg)}
	if cfg.HTTP != "" {
		hc.Listen = append(hc.Listen, cfg.HTTP)
	}
	for _, h := range cfg.Hosts {
		if network, address := splitHost(h); network == "tcp" {
			hc.Listen = append(hc.Listen, address)
		}
	}
	info, err := staticInfo(cfg, "", "")
	if err != nil {
		return err
	}
	fmt.Printf("%s, Linux %s, %d CPUs, %s\n", info.OperatingSystem, info.KernelVersion, info.NCPU, units.BytesSize(float64(info.MemTotal)))
	ready, err := host.Write(os.Stdout, slices.Concat(host.Check(ctx, hc), surveyed(probes.Survey()), priced(cfg)))
	if err == nil && !ready {
		err = errNotReady
	}
	return err
}

// priced tells what the hooks of system calls cost on this machine, and what the budget is.
func priced(cfg config) []host.Finding {
	f := host.Finding{Group: "price of the probes", Name: "hooks of system calls"}
	tax, err := probes.PairTax()
	if err != nil {
		f.Level, f.Got = host.Fallback, fmt.Sprintf("taken to be that of another machine: %v", err)
		return []host.Finding{f}
	}
	f.Got = fmt.Sprintf("add %v to each call of any process while they are attached, beside the programs' time", tax)
	level, budget := cfg.probesLevel()
	b := host.Finding{Group: f.Group, Name: "budget", Got: fmt.Sprintf("none: the level is %s, whatever it costs", level)}
	if budget.Auto {
		b.Got = fmt.Sprintf("%g %% of the time in which processors are busy: those hooks alone use it up at %.3g calls a second of one",
			100*budget.Share, budget.Share/tax.Seconds())
	}
	return []host.Finding{f, b}
}

// surveyed tells of each program of the probes whether it can be attached, what stands for it, or why it is left out.
func surveyed(all []probes.Surveyed, err error) []host.Finding {
	const group = "programs of the probes"
	if err != nil {
		return []host.Finding{{Group: group, Name: "all", Level: host.Missing, Got: err.Error()}}
	}
	findings := make([]host.Finding, len(all))
	for i, s := range all {
		f := host.Finding{Group: group, Name: s.Object + "/" + s.Program, Level: host.OK, Got: "attached"}
		switch {
		case s.As == "" && s.Optional:
			f.Level, f.Got = host.Fallback, fmt.Sprintf("left out: %v", s.Reason)
		case s.As == "":
			f.Level, f.Got = host.Missing, s.Reason.Error()
		case s.As != s.Program:
			f.Level, f.Got = host.Fallback, fmt.Sprintf("%s is attached instead: %v", s.As, s.Reason)
		}
		f.Got = strings.ReplaceAll(f.Got, "\n", "; ")
		findings[i] = f
	}
	return findings
}

// locked reports whether a daemon holds the data root. It makes nothing.
func locked(cfg config) bool {
	f, err := os.Open(filepath.Join(cfg.DataRoot, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// welcome tells a person at a terminal where everything is and what was changed on the host.
func (d *daemon) welcome(after string) (string, error) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-8s  %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "tritond %s, instance %s, serves after %s\n", version, d.cfg.Instance, after)
	for _, h := range d.cfg.Hosts {
		line("docker", "export DOCKER_HOST=%s", h)
	}
	if d.cfg.HTTP != "" {
		link, err := d.loginLink(auth.Caller{Tenant: triton.DefaultTenant, Operator: true, Name: "console"})
		if err != nil {
			return "", err
		}
		line("page", "%s  (good for one login)", link)
		line("metrics", "%s/metrics", d.pageURL())
	}
	fmt.Fprintf(&b, "changed on this host; `tritond purge` takes it back\n")
	own := "/triton-" + d.cfg.Instance
	line("files", "%s (stays after a purge), %s", d.cfg.DataRoot, d.cfg.RunRoot)
	line("cgroup", "%s and below", d.cgroups.Dir("", own))
	line("mount", "bpffs on %s", filepath.Dir(d.roots.pinDir))
	changes, err := d.network.Changes()
	if err != nil {
		return "", err
	}
	for _, c := range changes {
		line(c.Kind, "%s", c.What)
	}
	if p := d.corePattern; p != nil {
		line("sysctl", "kernel.core_pattern=%s, was %s", p.Ours, p.Previous)
		if !coredump.Honours(p.Previous) {
			line("", "that names a socket: crashes of no container end without a core meanwhile")
		}
	}
	return b.String(), nil
}

// pageURL is where --http is served.
func (d *daemon) pageURL() string {
	if d.cfg.webTLS() {
		return "https://" + d.cfg.HTTP
	}
	return "http://" + d.cfg.HTTP
}
