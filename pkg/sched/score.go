package sched

import "fmt"

// A scorer gives the cost of a node that fits, in shares of a node's capacity: lower is better. Each has a weight in
// Config.Scores and a text that names the numbers it saw.
type scorer uint8

const (
	scorePeak scorer = iota
	scoreNow
	scoreMemory
	scorePressure
	scoreRunQueue
	scoreInterference
	scoreCrash
	scoreLocality
	scoreReplicas
	scoreSpread
	scoreAffinity
	scoreNetwork
	scoreDisk
	scorers
)

func (x scorer) String() string {
	return [...]string{"peak", "now", "memory", "pressure", "run-queue", "interference", "crashes", "locality", "replicas",
		"spread", "affinity", "network", "disk"}[x]
}

// costs of one node by scorer, weighted, and the numbers they came from.
type costs struct {
	total float32
	part  [scorers]float32
	seen  [scorers]float32
}

func (w *Weights) array() [scorers]float32 {
	return [scorers]float32{float32(w.Peak), float32(w.Now), float32(w.Memory), float32(w.Pressure), float32(w.RunQueue),
		float32(w.Interference), float32(w.Crash), float32(w.Locality), float32(w.Replicas), float32(w.Spread),
		float32(w.Affinity), float32(w.Network), float32(w.Disk)}
}

// score weighs node n, whose outlook with the request is o.
func (s *Snapshot) score(n int32, q *query, o *outlook) (c costs) {
	ns := &s.nodes
	peak, now, mem := s.fullness(n, o, q.cpu, q.mem)
	if q.pack {
		peak, now = -peak, 0
	}
	c.seen[scorePeak], c.seen[scoreNow], c.seen[scoreMemory] = peak, now, mem
	s.stress(n, &c.seen)
	c.seen[scoreInterference] = s.interference(n, q)
	c.seen[scoreCrash] = min(1, float32(s.crashes(n, q)/s.cfg.CrashLimit))
	if !q.held || !ns.images[n][q.r.Image] {
		c.seen[scoreLocality] = 1
	}
	c.seen[scoreReplicas] = float32(o.replicas)
	if q.replicas > 0 {
		c.seen[scoreSpread] = float32(q.spread[ns.fixed[n].Labels[q.r.SpreadBy]]) / float32(q.replicas)
	}
	for i := range q.r.Constraints {
		if q.r.Constraints[i].Soft && !s.holds(n, q, i) {
			c.seen[scoreAffinity]++
		}
	}
	for x := range c.part {
		c.part[x] = s.weights[x] * c.seen[x]
		c.total += c.part[x]
	}
	return c
}

// fullness is the predicted peak, the present and memory as shares of the node, by requests where telemetry is not fresh.
func (s *Snapshot) fullness(n int32, o *outlook, cpu, mem float32) (peak, now, memory float32) {
	ns := &s.nodes
	if !ns.fresh[n] {
		peak = (float32(ns.promised[n]) + cpu) / ns.cap[n]
		return peak, peak, (float32(ns.promisedMem[n]) + mem) / ns.mem[n]
	}
	return o.peak / ns.cap[n], o.now / ns.cap[n], o.mem / ns.mem[n]
}

const (
	// pressureFloor is the stall share that any busy machine shows.
	pressureFloor = 0.05
	// slowQueue is the p99 of run-queue latency at which its cost is full: several scheduler slices.
	slowQueue = 0.010 // seconds
	// busyLink is the share of a link from which it counts.
	busyLink = 0.3
)

// stress fills the costs that are of the node alone, from its last frame.
func (s *Snapshot) stress(n int32, seen *[scorers]float32) {
	ns := &s.nodes
	if !ns.fresh[n] {
		return
	}
	f := &ns.frame[n]
	seen[scorePressure] = max(0, float32(f.CPUPSI)-pressureFloor) + 2*max(0, float32(f.MemPSI)-pressureFloor) +
		max(0, float32(f.IOPSI)-pressureFloor)
	seen[scoreRunQueue] = min(1, float32(f.RunQ.Seconds()/slowQueue))
	if link := ns.fixed[n].Network; link > 0 {
		seen[scoreNetwork] = max(0, float32(f.Net/link)-busyLink)
	}
	if disk := ns.fixed[n].Disk; disk > 0 {
		seen[scoreDisk] = float32(max(f.Disk, ns.disk[n])) / float32(disk)
	}
}

// interference is the share of time a latency-sensitive container was measured to wait for images that run on the node,
// or latency-sensitive ones there for this image.
func (s *Snapshot) interference(n int32, q *query) float32 {
	if q.image < 0 {
		return 0
	}
	sum := float32(0)
	if q.r.LatencySensitive {
		for _, d := range s.culprits[q.image] {
			if s.nodes.groups[n][d.image] > 0 {
				sum += d.share
			}
		}
	}
	for _, d := range s.victims[q.image] {
		if s.nodes.groups[n][d.image] > 0 && s.sensitive[d.image] > 0 {
			sum += d.share
		}
	}
	return min(1, sum)
}

// levelOf is what a node costs before a request is looked at; the index is ordered by it.
func (s *Snapshot) levelOf(n int32) float32 {
	o := s.look(n, nil, -1, 0)
	var seen [scorers]float32
	seen[scorePeak], seen[scoreNow], seen[scoreMemory] = s.fullness(n, &o, 0, 0)
	s.stress(n, &seen)
	sum := float32(0)
	for x := range seen {
		sum += s.weights[x] * seen[x]
	}
	return sum
}

// reason is the text of one part of a cost.
func (x scorer) reason(v float32) string {
	switch x {
	case scorePeak:
		return fmt.Sprintf("predicted peak %.0f %% of its cores", 100*abs(v))
	case scoreNow:
		return fmt.Sprintf("present use %.0f %% of its cores", 100*v)
	case scoreMemory:
		return fmt.Sprintf("predicted memory %.0f %%", 100*v)
	case scorePressure:
		return fmt.Sprintf("tasks stall %.0f %% of the time beyond the usual", 100*v)
	case scoreRunQueue:
		return fmt.Sprintf("threads wait for a CPU up to %.1f ms", 1000*slowQueue*v)
	case scoreInterference:
		return fmt.Sprintf("measured delays among these images %.0f %%", 100*v)
	case scoreCrash:
		return fmt.Sprintf("crashes of the image there at %.0f %% of the limit", 100*v)
	case scoreLocality:
		return "image not present"
	case scoreReplicas:
		return fmt.Sprintf("%.0f containers of the image there", v)
	case scoreSpread:
		return fmt.Sprintf("%.0f %% of the replicas there", 100*v)
	case scoreAffinity:
		return fmt.Sprintf("%.0f soft constraints unmet", v)
	case scoreNetwork:
		return fmt.Sprintf("link %.0f %% busy", 100*(v+busyLink))
	}
	return fmt.Sprintf("disk %.0f %% full", 100*v)
}

func abs(v float32) float32 { return max(v, -v) }
