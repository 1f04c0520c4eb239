package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Condition is one fact about the machine that numbers depend on.
type Condition struct{ What, Value string }

// Conditions are read before the first measurement.
func Conditions(ctx context.Context) []Condition {
	return []Condition{
		{"date", time.Now().UTC().Format("2006-01-02 15:04 UTC")},
		{"kernel", firstLine(os.ReadFile("/proc/sys/kernel/osrelease"))},
		{"processor", fmt.Sprintf("%d x %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"))},
		{"memory", field("/proc/meminfo", "MemTotal")},
		{"load at the start", Load()},
		{"cgroups", cgroups()},
		{"commit", firstLine(exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output())},
		{"docker client", firstLine(exec.CommandContext(ctx, "docker", "--version").Output())},
	}
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

// Load is the average number of tasks that ran in the last 1, 5 and 15 minutes.
func Load() string {
	f := strings.Fields(firstLine(os.ReadFile("/proc/loadavg")))
	return strings.Join(f[:min(3, len(f))], " ")
}

// Print writes conditions in Markdown, and the load as it is now.
func Print(w io.Writer, before []Condition) error {
	var out strings.Builder
	out.WriteString("### Conditions\n\n| what | value |\n|---|---|\n")
	for _, c := range append(before, Condition{"load at the end", Load()}) {
		fmt.Fprintf(&out, "| %s | %s |\n", c.What, c.Value)
	}
	_, err := io.WriteString(w, out.String())
	return err
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
