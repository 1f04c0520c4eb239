package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// condition is one fact about the machine that numbers depend on.
type condition struct{ what, value string }

// conditions are read before the first measurement.
func conditions(ctx context.Context) []condition {
	return []condition{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"kernel", firstLine(os.ReadFile("/proc/sys/kernel/osrelease"))},
		{"processor", fmt.Sprintf("%d x %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"))},
		{"memory", field("/proc/meminfo", "MemTotal")},
		{"load at the start", loadavg()},
		{"cgroups", cgroups()},
		{"commit", firstLine(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output())},
		{"docker client", firstLine(exec.CommandContext(ctx, "docker", "--version").Output())},
	}
}

// version asks an engine what it is.
func (s *subject) version() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := s.docker(ctx, "version", "--format",
		"API {{.Server.APIVersion}}{{range .Server.Components}}, {{.Name}} {{.Version}}{{end}}")
	if err != nil {
		return err.Error()
	}
	storage, err := s.docker(ctx, "info", "--format", "{{.Driver}}, cgroup v{{.CgroupVersion}}")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(res.Stdout) + ", " + strings.TrimSpace(storage.Stdout)
}

// cgroups says whether the first cgroup.procs write waits for a grace period: favordynmods makes starts about 9 ms faster.
func cgroups() string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err.Error()
	}
	switch s := string(b); {
	case strings.Contains(s, "favordynmods"):
		return "favordynmods on"
	case strings.Contains(s, " - cgroup "):
		return "hybrid or v1, favordynmods off"
	default:
		return "v2, favordynmods off"
	}
}

func loadavg() string {
	f := strings.Fields(firstLine(os.ReadFile("/proc/loadavg")))
	return strings.Join(f[:min(3, len(f))], " ")
}

func firstLine(b []byte, err error) string {
	if err != nil {
		return "unknown (" + err.Error() + ")"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}

// field returns what follows the first "name :" of a file.
func field(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
