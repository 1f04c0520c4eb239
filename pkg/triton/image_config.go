package triton

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// ImageConfig is what an image says about how to run it.
type ImageConfig struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string
	WorkingDir   string
	User         string
	ExposedPorts []string
	Volumes      []string
	Labels       map[string]string
	StopSignal   string
	Shell        []string
	OnBuild      []string     // Dockerfile lines that act when an image is built from this one
	Healthcheck  *Healthcheck // nil: none
}

// ImageConfig is the part of a specification that an image can have.
func (s *Spec) ImageConfig() ImageConfig {
	return ImageConfig{
		Entrypoint: s.Entrypoint, Cmd: s.Cmd, Env: s.Env, WorkingDir: s.WorkingDir, User: s.User, ExposedPorts: s.ExposedPorts,
		Volumes: s.Volumes, Labels: s.Labels, StopSignal: s.StopSignal, Shell: s.Shell, Healthcheck: s.Healthcheck,
	}
}

// Over fills in what c leaves to another config, by docker's rules for a container over its image and for a commit's
// settings over its container: an entrypoint drops the other's command, variables and labels replace those of the same
// name, ports and volumes add up. Shell and OnBuild are c's alone. The result shares nothing with the two.
func (c ImageConfig) Over(below ImageConfig) ImageConfig {
	out := ImageConfig{
		Entrypoint: slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd), Env: envOver(c.Env, below.Env),
		WorkingDir: cmp.Or(c.WorkingDir, below.WorkingDir), User: cmp.Or(c.User, below.User), StopSignal: cmp.Or(c.StopSignal, below.StopSignal),
		ExposedPorts: union(c.ExposedPorts, below.ExposedPorts), Volumes: union(c.Volumes, below.Volumes),
		Labels: make(map[string]string, len(c.Labels)+len(below.Labels)),
		Shell:  slices.Clone(c.Shell), OnBuild: slices.Clone(c.OnBuild), Healthcheck: c.Healthcheck.Over(below.Healthcheck),
	}
	maps.Copy(out.Labels, below.Labels)
	maps.Copy(out.Labels, c.Labels)
	if len(c.Entrypoint) > 0 {
		return out
	}
	if len(c.Cmd) == 0 {
		out.Cmd = slices.Clone(below.Cmd)
	}
	if c.Entrypoint == nil {
		out.Entrypoint = slices.Clone(below.Entrypoint)
	}
	return out
}

// envOver puts the variables of below behind those of env, except those that env sets.
func envOver(env, below []string) []string {
	set := make(map[string]bool, len(env))
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	merged := slices.Clone(env)
	for _, e := range below {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			merged = append(merged, e)
		}
	}
	return merged
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
