package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// statsPeriod is the time between two samples, as in docker.
const statsPeriod = time.Second

// containerStats answers one sample or a stream of them. A single one carries the processor time of a second before, so
// that a share can be computed, unless one-shot asks not to wait for it. A container that does not run has empty samples.
func (s *Server) containerStats(ctx context.Context, c *call) error {
	stream := c.query.boolOr("stream", true)
	oneShot := c.query.bool("one-shot")
	if stream && oneShot {
		return invalid("cannot have stream=true and one-shot=true")
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	before, err := s.sample(ctx, key, c.version)
	if err != nil {
		return err
	}
	if !stream {
		if oneShot || before.Read.IsZero() {
			return c.json(http.StatusOK, before)
		}
		now, err := s.nextSample(ctx, key, c.version, &before)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, now)
	}
	if err := c.flushHeader("application/json"); err != nil {
		return err
	}
	out := newFlusher(c.w)
	defer out.close()
	enc := json.NewEncoder(out)
	for {
		if err := enc.Encode(before); err != nil {
			return err
		}
		if before, err = s.nextSample(ctx, key, c.version, &before); err != nil {
			return err // removed: the stream ends
		}
	}
}

// nextSample takes the sample that follows before by statsPeriod.
func (s *Server) nextSample(ctx context.Context, key triton.ContainerKey, version apiVersion, before *statsSample) (statsSample, error) {
	if err := pause(ctx, statsPeriod); err != nil {
		return statsSample{}, err
	}
	now, err := s.sample(ctx, key, version)
	now.follow(before)
	return now, err
}

// pause waits, or returns why the client is not there any more.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// statsSample is container.StatsResponse with what clients up to API 1.51 expect.
type statsSample struct {
	container.StatsResponse
	// The lower-case field hides the inner one's omitempty: scripts read the name whether or not the container runs.
	Name string `json:"name"`
	ID   string `json:"id"`
}

// follow takes the sample before this one as the base that shares of processor time are computed from.
func (s *statsSample) follow(before *statsSample) {
	if s.Read.IsZero() || before.Read.IsZero() {
		return
	}
	s.PreRead, s.PreCPUStats = before.Read, before.CPUStats
}

func (s *Server) sample(ctx context.Context, key triton.ContainerKey, version apiVersion) (statsSample, error) {
	ctr, err := s.Backend.InspectContainer(ctx, key)
	if err != nil {
		return statsSample{}, err
	}
	out := statsSample{Name: "/" + ctr.Name, ID: key.ID}
	const osTypeSince = 49
	if version >= osTypeSince {
		out.OSType = "linux"
	}
	st, err := s.Backend.ContainerStats(ctx, key)
	if err != nil || st == nil {
		return out, err
	}
	fillSample(&out.StatsResponse, st)
	return out, nil
}

// fillSample puts a reading into docker's shape.
func fillSample(out *container.StatsResponse, st *triton.Stats) {
	u := &st.Usage
	out.Read = u.Time
	out.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: uint64(u.CPUTotal), UsageInKernelmode: uint64(u.CPUSystem), UsageInUsermode: uint64(u.CPUUser), PercpuUsage: st.PerCPU,
		},
		SystemUsage: st.HostCPU, OnlineCPUs: uint32(st.OnlineCPUs),
		ThrottlingData: container.ThrottlingData{
			Periods: u.CPUPeriods, ThrottledPeriods: u.CPUThrottled, ThrottledTime: uint64(u.CPUThrottledTime),
		},
	}
	out.MemoryStats = container.MemoryStats{Usage: u.MemoryUsage, Stats: st.MemoryStat, Failcnt: st.MemoryFails, Limit: u.MemoryLimit}
	if _, v1 := st.MemoryStat["total_inactive_file"]; v1 {
		out.MemoryStats.MaxUsage = u.MemoryPeak // as docker: v2 has no such field
	}
	if u.MemoryLimit == 0 {
		out.MemoryStats.Limit = st.HostMemory
	}
	out.PidsStats = container.PidsStats{Current: u.Pids, Limit: u.PidsLimit}
	out.BlkioStats = container.BlkioStats{IoServiceBytesRecursive: blockEntries(st.BlockBytes), IoServicedRecursive: blockEntries(st.BlockOps)}
	if len(st.Networks) > 0 {
		out.Networks = make(map[string]container.NetworkStats, len(st.Networks))
	}
	for name, i := range st.Networks {
		out.Networks[name] = container.NetworkStats{
			RxBytes: i.RxBytes, RxPackets: i.RxPackets, RxErrors: i.RxErrors, RxDropped: i.RxDropped,
			TxBytes: i.TxBytes, TxPackets: i.TxPackets, TxErrors: i.TxErrors, TxDropped: i.TxDropped,
		}
	}
}

func blockEntries(list []triton.BlockIO) []container.BlkioStatEntry {
	var out []container.BlkioStatEntry
	for _, b := range list {
		out = append(out, container.BlkioStatEntry{Major: b.Major, Minor: b.Minor, Op: b.Op, Value: b.Value})
	}
	return out
}
