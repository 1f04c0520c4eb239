package host

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// minFiles is what the daemon needs: some ten descriptors per container, for the thousand it can watch.
const minFiles = 16384

func room(_ context.Context, cfg Config) []Finding {
	return []Finding{freeSpace(cfg), openFiles(), pidMax()}
}

func freeSpace(cfg Config) Finding {
	const group, name = "room", "free space"
	var st unix.Statfs_t
	dir := existing(cfg.DataRoot)
	if err := unix.Statfs(dir, &st); err != nil {
		return Finding{group, name, Missing, fmt.Sprintf("%s: %v", dir, err)}
	}
	free := st.Bavail * uint64(st.Bsize)
	got := fmt.Sprintf("%s on the volume of %s, %s must stay free", units.BytesSize(float64(free)), dir, units.BytesSize(float64(cfg.MinFree)))
	f := Finding{group, name, OK, got}
	if free < cfg.MinFree {
		f.Level, f.Got = Fallback, f.Got+": images and new containers are refused"
	}
	return f
}

func openFiles() Finding {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return Finding{"room", "open files", Fallback, err.Error()}
	}
	f := Finding{"room", "open files", OK, fmt.Sprintf("%d at most", l.Max)}
	if l.Max < minFiles {
		f.Level, f.Got = Fallback, f.Got+fmt.Sprintf(", below %d: not enough for a thousand containers", minFiles)
	}
	return f
}

func pidMax() Finding {
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	n, bad := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || bad != nil {
		return Finding{"room", "process ids", Fallback, "kernel.pid_max cannot be read"}
	}
	return Finding{"room", "process ids", OK, fmt.Sprintf("%d at most", n)}
}
