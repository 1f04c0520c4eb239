package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/tritond/triton/pkg/backtrace"
	"github.com/tritond/triton/pkg/backtrace/jail"
	"github.com/tritond/triton/pkg/coredump"
	"github.com/tritond/triton/pkg/crashgroup"
)

// coreSocket is what kernel.core_pattern names while a daemon of these roots takes core dumps.
func coreSocket(cfg config) string { return filepath.Join(cfg.RunRoot, "core.sock") }

// openCores opens the store of dumps. It is there with --core-pattern=keep too: what was taken before can be read.
func (d *daemon) openCores() (err error) {
	var damaged int
	d.groups, damaged, err = crashgroup.Open(filepath.Join(d.cfg.DataRoot, "crash-groups"), crashgroup.DefaultKeep, time.Now)
	if err != nil {
		return err
	}
	if damaged > 0 {
		d.log.Error("crash groups cannot be read", "files", damaged)
	}
	keep := coredump.DefaultKeep
	keep.Bytes = uint64(d.cfg.CoreKeep)
	d.cores, err = coredump.New(coredump.Config{
		Dir: filepath.Join(d.cfg.DataRoot, "cores"), Socket: coreSocket(d.cfg), Form: d.cfg.CoreCapture,
		Helper: filepath.Join(filepath.Dir(d.cfg.ShimPath), "triton-core"), Keeper: d.runtime.Keeper,
		Find: d.node.CrashSubject, Log: d.node.LastLines, LastMinute: d.node.LastMinute, LastCalls: d.node.LastCalls, Saved: d.node.CoreSaved,
		Quota: uint64(d.cfg.CoreQuota), MaxHold: time.Duration(d.cfg.CoreMaxHold), MinFree: uint64(d.cfg.MinFree), Keep: keep,
		Share:   float64(d.cfg.CoreCPU) / 100,
		Analyze: d.analyze, Group: groupOf, Count: d.countCrash, CountOnly: d.countOnly, Analysed: d.node.CoreAnalysed,
		Logger: d.log.With("part", "cores"), Now: time.Now,
	})
	if err != nil {
		return err
	}
	return d.telemetry.Register(coreMetrics{d.cores}, groupMetrics{d.groups, d.node})
}

// crashOf is what a dump's group is told of it.
func crashOf(r *coredump.Record, s *backtrace.Signature) *crashgroup.Crash {
	c := &crashgroup.Crash{
		Dump: r.ID, Container: r.Container, Name: r.Name, Image: r.Image, ImageID: r.ImageID, At: r.At, Signal: r.Signal, Comm: r.Comm,
		Fuzzy: s.Fuzzy, Exact: s.Exact, Frames: s.Frames, OperatorOnly: r.OperatorOnly,
	}
	if r.Analysis != nil {
		c.Top = r.Analysis.Top
	}
	return c
}

// groupOf names the group of a dump. Without a signature there is none.
func groupOf(r *coredump.Record, s *backtrace.Signature) string {
	if s.Fuzzy == "" {
		return ""
	}
	return crashOf(r, s).ID()
}

// countCrash counts a dump in its group, and returns the group's state.
func (d *daemon) countCrash(r *coredump.Record, s *backtrace.Signature) (string, error) {
	c := crashOf(r, s)
	c.Node = d.static.Name
	g, err := d.groups.Count(c)
	if err != nil {
		return "", err
	}
	return string(g.State), nil
}

// countOnly counts crashes at a dump's place in its group.
func (d *daemon) countOnly(r *coredump.Record, n uint64, last time.Time) error {
	c := crashOf(r, &backtrace.Signature{Exact: r.Analysis.Exact})
	c.Node, c.At = d.static.Name, last
	return d.groups.CountOnly(r.Analysis.Group, c, n)
}

// analyze reads the stacks of a process that crashed, in a process that has nothing to lose.
func (d *daemon) analyze(ctx context.Context, p *backtrace.Process, mem backtrace.Memory, files []*os.File) (*backtrace.Result, time.Duration, error) {
	return jail.Run(ctx, filepath.Join(filepath.Dir(d.cfg.ShimPath), "triton-backtrace"), p, mem, files)
}

// takeCores takes the machine's core dumps before anything is served. Run tells why not, and tries again where that helps.
func (d *daemon) takeCores(ctx context.Context) {
	pattern, err := d.cores.Take(ctx)
	if err != nil {
		d.log.Debug("core dumps are not taken at the start", "err", err)
		return
	}
	d.corePattern = pattern
}
