package sched

import (
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// SetNode adds a node, or changes what is fixed of it.
func (s *Snapshot) SetNode(f Node) error {
	if f.Name == "" || !(f.CPU > 0) || f.Memory <= 0 {
		return fmt.Errorf("node %q with %v cores and %d bytes of memory: %w", f.Name, f.CPU, f.Memory, errdefs.ErrInvalidArgument)
	}
	n, ok := s.byName[f.Name]
	if !ok {
		n = s.newNode(f.Name)
	}
	s.unpost(n)
	ns := &s.nodes
	ns.fixed[n], ns.hash[n] = f, nameHash(s.seed, f.Name)
	ns.cap[n], ns.mem[n] = float32(f.CPU), float32(f.Memory/mib)
	ns.images[n] = map[string]bool{}
	for _, image := range f.Images {
		ns.images[n][image] = true
	}
	for _, key := range postings(&f) {
		list := s.posting[key]
		if at, ok := slices.BinarySearch(list, n); !ok {
			s.posting[key] = slices.Insert(list, at, n)
		}
	}
	s.place(n)
	return nil
}

func (s *Snapshot) newNode(name string) int32 {
	ns := &s.nodes
	n := int32(len(ns.alive))
	if free := len(s.holes) - 1; free >= 0 {
		n, s.holes = s.holes[free], s.holes[:free]
	} else {
		ns.grow()
		s.index.grow()
	}
	ns.alive[n] = true
	s.byName[name] = n
	return n
}

func (ns *nodes) grow() {
	ns.fixed, ns.alive = append(ns.fixed, Node{}), append(ns.alive, false)
	ns.cap, ns.mem = append(ns.cap, 0), append(ns.mem, 0)
	ns.promised, ns.promisedMem = append(ns.promised, 0), append(ns.promisedMem, 0)
	ns.mean, ns.vr = append(ns.mean, make([]float32, Slots)...), append(ns.vr, make([]float32, Slots)...)
	ns.memMean, ns.memVar = append(ns.memMean, 0), append(ns.memVar, 0)
	ns.level, ns.fresh = append(ns.level, 0), append(ns.fresh, false)
	ns.now, ns.nowVar, ns.nowMem = append(ns.now, 0), append(ns.nowVar, 0), append(ns.nowMem, 0)
	ns.waiting, ns.waitMem = append(ns.waiting, 0), append(ns.waitMem, 0)
	ns.frame, ns.placed = append(ns.frame, Frame{}), append(ns.placed, 0)
	ns.run, ns.groups = append(ns.run, nil), append(ns.groups, map[int32]int32{})
	ns.ports, ns.images = append(ns.ports, map[Port]int32{}), append(ns.images, nil)
	ns.crash, ns.disk, ns.hash = append(ns.crash, nil), append(ns.disk, 0), append(ns.hash, 0)
}

// postings are the keys a node is found by: its name, labels, volumes and images.
func postings(f *Node) []string {
	keys := []string{nodeKey(f.Name)}
	for k, v := range f.Labels {
		keys = append(keys, labelKey(k, v))
	}
	for _, v := range f.Volumes {
		keys = append(keys, volumeKey(v))
	}
	for _, image := range f.Images {
		keys = append(keys, imageKey(image))
	}
	return keys
}

func nodeKey(name string) string   { return "node\x00" + name }
func labelKey(k, v string) string  { return "label\x00" + k + "\x00" + v }
func imageKey(name string) string  { return "image\x00" + name }
func volumeKey(name string) string { return "volume\x00" + name }

func (s *Snapshot) unpost(n int32) {
	for _, key := range postings(&s.nodes.fixed[n]) {
		list := s.posting[key]
		at, ok := slices.BinarySearch(list, n)
		if !ok {
			continue
		}
		if s.posting[key] = slices.Delete(list, at, at+1); len(s.posting[key]) == 0 {
			delete(s.posting, key)
		}
	}
}

// DropNode forgets a node and what ran on it.
func (s *Snapshot) DropNode(name string) {
	n, ok := s.byName[name]
	if !ok {
		return
	}
	for len(s.nodes.run[n]) > 0 {
		s.Release(s.nodes.run[n][0].req.Key)
	}
	for key, c := range s.containers {
		if c.node == n { // parked
			s.Release(key)
		}
	}
	s.unpost(n)
	s.index.drop(n)
	delete(s.byName, name)
	s.holes = append(s.holes, n)
	ns := &s.nodes
	ns.alive[n], ns.fixed[n], ns.frame[n], ns.fresh[n], ns.placed[n] = false, Node{}, Frame{}, false, 0
	ns.now[n], ns.nowVar[n], ns.nowMem[n], ns.waiting[n], ns.waitMem[n] = 0, 0, 0, 0, 0
	ns.promised[n], ns.promisedMem[n], ns.memMean[n], ns.memVar[n], ns.disk[n], ns.crash[n] = 0, 0, 0, 0, 0, nil
	clear(ns.mean[int(n)*Slots:][:Slots])
	clear(ns.vr[int(n)*Slots:][:Slots])
}

// SetQuota bounds a tenant; the zero Quota frees it.
func (s *Snapshot) SetQuota(t triton.Tenant, q Quota) {
	if q == (Quota{}) {
		delete(s.quotas, t)
		return
	}
	s.quotas[t] = q
}

// SetDelay tells from the matrix of who delays whom which share of the time that containers of image victim wanted a CPU
// they waited for those of image culprit. 0 forgets.
func (s *Snapshot) SetDelay(culprit, victim string, share float64) {
	a, b := s.intern(culprit, true), s.intern(victim, true)
	setDelay(s.culprits, b, a, share)
	setDelay(s.victims, a, b, share)
}

func setDelay(m map[int32][]delay, of, by int32, share float64) {
	m[of] = slices.DeleteFunc(m[of], func(d delay) bool { return d.image == by })
	if share > 0 {
		m[of] = append(m[of], delay{by, float32(min(1, share))})
	}
	slices.SortFunc(m[of], func(a, b delay) int { return int(a.image - b.image) })
	if len(m[of]) == 0 {
		delete(m, of)
	}
}

// Assign records that a container was bound to a node: it counts there with its prediction until a frame acknowledges the
// sequence number returned. A container that was assigned before moves; one that stays keeps its samples.
func (s *Snapshot) Assign(node string, r Request) (seq uint64, err error) {
	n, ok := s.byName[node]
	if !ok {
		return 0, fmt.Errorf("assign %s to %s: %w", r.Key, node, errdefs.ErrNotFound)
	}
	if err := r.Validate(); err != nil {
		return 0, fmt.Errorf("assign %s to %s: %w: %w", r.Key, node, err, errdefs.ErrInvalidArgument)
	}
	s.seq++
	c := &container{req: r, node: n, image: s.intern(r.Image, true), seq: s.seq, waiting: true}
	if old := s.containers[r.Key]; old != nil && old.node == n {
		c.own = old.own
	}
	s.Release(r.Key)
	s.expect(&c.req, &c.own, &c.load)
	s.containers[r.Key] = c
	name := containerKey(r.Key.Tenant, r.Name)
	s.byContainer[name] = append(s.byContainer[name], c)
	s.nodes.placed[n] = s.seq
	s.begin(c)
	s.place(n)
	return s.seq, nil
}

// Park records that a container does not run: it uses nothing and is promised nothing, but constraints on containers find it.
// Assign ends that.
func (s *Snapshot) Park(key triton.ContainerKey) {
	if c := s.containers[key]; c != nil && !c.idle {
		s.end(c)
		c.idle = true
		s.place(c.node)
	}
}

// Release records that a container is gone.
func (s *Snapshot) Release(key triton.ContainerKey) {
	c := s.containers[key]
	if c == nil {
		return
	}
	delete(s.containers, key)
	name := containerKey(key.Tenant, c.req.Name)
	s.byContainer[name] = slices.DeleteFunc(s.byContainer[name], func(o *container) bool { return o == c })
	if len(s.byContainer[name]) == 0 {
		delete(s.byContainer, name)
	}
	if !c.idle {
		s.end(c)
		s.place(c.node)
	}
}

// begin counts a container on its node.
func (s *Snapshot) begin(c *container) {
	ns, n := &s.nodes, c.node
	c.at = int32(len(ns.run[n]))
	ns.run[n] = append(ns.run[n], c)
	cpu, mem := s.asked(&c.req)
	ns.promised[n] += float64(cpu)
	ns.promisedMem[n] += float64(mem)
	ns.disk[n] += c.req.Disk
	for _, p := range c.req.Ports {
		ns.ports[n][p]++
	}
	s.charge(c.req.Key.Tenant, cpu, mem, 1)
	s.remember(c)
	s.addLoad(c)
	ns.waiting[n] += c.load.mean[slot(s.hour)]
	ns.waitMem[n] += c.load.mem
}

// end undoes begin.
func (s *Snapshot) end(c *container) {
	ns, n := &s.nodes, c.node
	last := len(ns.run[n]) - 1
	ns.run[n][c.at], ns.run[n][last].at = ns.run[n][last], c.at
	ns.run[n][last] = nil
	ns.run[n] = ns.run[n][:last]
	cpu, mem := s.asked(&c.req)
	ns.promised[n] -= float64(cpu)
	ns.promisedMem[n] -= float64(mem)
	ns.disk[n] -= c.req.Disk
	for _, p := range c.req.Ports {
		if ns.ports[n][p]--; ns.ports[n][p] <= 0 {
			delete(ns.ports[n], p)
		}
	}
	s.charge(c.req.Key.Tenant, -cpu, -mem, -1)
	s.forget(c)
	if c.waiting {
		s.confirm(c)
	} else { // until the next frame the node is taken to use less by what the container was expected to use now
		ns.now[n] = max(0, ns.now[n]-c.load.mean[slot(s.hour)])
		ns.nowMem[n] = max(0, ns.nowMem[n]-c.load.mem)
	}
	s.dropLoad(c)
}

// remember and forget keep what finds running containers by image.
func (s *Snapshot) remember(c *container) {
	if s.replicas[c.image] == nil {
		s.replicas[c.image] = map[int32]int32{}
	}
	s.replicas[c.image][c.node]++
	if c.req.LatencySensitive {
		s.sensitive[c.image]++
	}
}

func (s *Snapshot) forget(c *container) {
	if s.replicas[c.image][c.node]--; s.replicas[c.image][c.node] == 0 {
		if delete(s.replicas[c.image], c.node); len(s.replicas[c.image]) == 0 {
			delete(s.replicas, c.image)
		}
	}
	if c.req.LatencySensitive {
		if s.sensitive[c.image]--; s.sensitive[c.image] == 0 {
			delete(s.sensitive, c.image)
		}
	}
}

func containerKey(t triton.Tenant, name string) string { return string(t) + "\x00" + name }

func (s *Snapshot) charge(t triton.Tenant, cpu, mem float32, count int) {
	u := s.used[t]
	if u == nil {
		u = &Quota{}
		s.used[t] = u
	}
	u.CPU += float64(cpu)
	u.Memory += int64(mem * mib)
	if u.Containers += count; u.Containers == 0 {
		delete(s.used, t)
	}
}

// addLoad adds a container's expected use to its node: the k-th replica of an image adds (2k-1) times its variance, since the
// deviations of replicas add up, not their variances.
func (s *Snapshot) addLoad(c *container) {
	ns, n := &s.nodes, c.node
	k := ns.groups[n][c.image]
	ns.groups[n][c.image] = k + 1
	s.shift(c, float32(2*k+1), 1)
}

func (s *Snapshot) dropLoad(c *container) {
	ns, n := &s.nodes, c.node
	k := ns.groups[n][c.image] - 1
	if k == 0 {
		delete(ns.groups[n], c.image)
	} else {
		ns.groups[n][c.image] = k
	}
	s.shift(c, float32(2*k+1), -1)
	if len(ns.run[n]) == 0 { // no rounding is left on an empty node
		clear(ns.mean[int(n)*Slots:][:Slots])
		clear(ns.vr[int(n)*Slots:][:Slots])
		ns.memMean[n], ns.memVar[n], ns.promised[n], ns.promisedMem[n] = 0, 0, 0, 0
	}
}

func (s *Snapshot) shift(c *container, repeat, sign float32) {
	ns, n := &s.nodes, int(c.node)
	mean, vr := ns.mean[n*Slots:][:Slots], ns.vr[n*Slots:][:Slots]
	for b := range Slots {
		mean[b] = max(0, mean[b]+sign*c.load.mean[b])
		vr[b] = max(0, vr[b]+sign*repeat*c.load.vr[b])
	}
	ns.memMean[n] = max(0, ns.memMean[n]+sign*c.load.mem)
	ns.memVar[n] = max(0, ns.memVar[n]+sign*repeat*c.load.memVar)
}

// confirm ends the time in which a container counts on top of what its node measures.
func (s *Snapshot) confirm(c *container) {
	if !c.waiting {
		return
	}
	c.waiting = false
	ns, n := &s.nodes, c.node
	ns.waiting[n] = max(0, ns.waiting[n]-c.load.mean[slot(s.hour)])
	ns.waitMem[n] = max(0, ns.waitMem[n]-c.load.mem)
}

// nowMemory is how fast the smoothed present follows: its time constant.
const nowMemory = 15 * time.Minute

// nowVarMemory is how many times longer its variance remembers.
const nowVarMemory = 3

// Report takes in a frame. A frame that is not newer than the last one of its node is dropped with ErrFailedPrecondition.
func (s *Snapshot) Report(f Frame) error {
	n, ok := s.byName[f.Node]
	if !ok {
		return fmt.Errorf("frame of node %q: %w", f.Node, errdefs.ErrNotFound)
	}
	ns := &s.nodes
	if !f.Time.After(ns.frame[n].Time) {
		return fmt.Errorf("frame of node %q of %s: not newer than the last: %w", f.Node, f.Time, errdefs.ErrFailedPrecondition)
	}
	ns.now[n] += s.confirmed(n, f.Containers)
	used := float32(f.CPU)
	s.learn(n, used, f.Over.Hours())
	share := float32(min(1, f.Over.Seconds()/nowMemory.Seconds()))
	if !ns.fresh[n] || ns.now[n] == 0 {
		share = 1
	}
	d := used - ns.now[n]
	ns.now[n] += share * d
	if share < 1 {
		d *= 1 - share
		ns.nowVar[n] += share / nowVarMemory * (d*d - ns.nowVar[n])
	}
	ns.nowMem[n] = float32(f.Memory) / mib
	ns.fresh[n] = true
	use := f.Containers
	f.Containers = nil
	ns.frame[n] = f
	for i := len(ns.run[n]) - 1; i >= 0 && ns.waiting[n]+ns.waitMem[n] > 0; i-- {
		if c := ns.run[n][i]; c.seq <= f.Acked {
			s.confirm(c)
		}
	}
	for _, u := range use {
		s.sample(n, u, float32(f.Over.Hours()))
	}
	s.place(n)
	return nil
}

// confirmed ends the waiting of the containers that a frame measured. It returns what they use, cores: so much is new in the
// node's present at once, and not as slowly as that is smoothed.
func (s *Snapshot) confirmed(n int32, use []ContainerUse) (cpu float32) {
	for _, u := range use {
		if c := s.containers[u.Key]; c != nil && c.node == n && c.waiting {
			s.confirm(c)
			cpu += float32(u.CPU)
		}
	}
	return cpu
}

// sample takes in what one container used; its expectation changes at once only where nothing better is known.
func (s *Snapshot) sample(n int32, u ContainerUse, hours float32) {
	c := s.containers[u.Key]
	if c == nil || c.node != n || c.idle {
		return
	}
	cpu, mem := float32(u.CPU), float32(u.Memory)/mib
	c.own.observe(hours, cpu, cpu*cpu, mem, mem)
	if c.load.basis != FromImage {
		s.reexpect(c)
	}
}

func (s *Snapshot) reexpect(c *container) {
	waiting := c.waiting
	s.confirm(c)
	s.dropLoad(c)
	s.expect(&c.req, &c.own, &c.load)
	s.addLoad(c)
	if waiting {
		c.waiting = true
		s.nodes.waiting[c.node] += c.load.mean[slot(s.hour)]
		s.nodes.waitMem[c.node] += c.load.mem
	}
}

// Advance states the time. Nodes whose last frame is older than StaleAfter are planned by requests from now on.
func (s *Snapshot) Advance(now time.Time) {
	s.now, s.hour = now, now.Unix()/3600
	for n, alive := range s.nodes.alive {
		if alive && s.nodes.fresh[n] && now.Sub(s.nodes.frame[n].Time) > s.cfg.StaleAfter {
			s.nodes.fresh[n] = false
			s.place(int32(n))
		}
	}
}

// Refresh recomputes all expectations from history and samples. Call it once an hour, after the hour was observed: it also
// clears the rounding of sums, and its cost grows with the containers.
func (s *Snapshot) Refresh() {
	s.prior, s.hasPop = s.history.population()
	ns := &s.nodes
	clear(ns.mean)
	clear(ns.vr)
	clear(ns.memMean)
	clear(ns.memVar)
	clear(ns.waiting)
	clear(ns.waitMem)
	for n := range ns.run {
		clear(ns.groups[n])
		for _, c := range ns.run[n] {
			s.expect(&c.req, &c.own, &c.load)
			s.addLoad(c)
			if c.waiting {
				ns.waiting[n] += c.load.mean[slot(s.hour)]
				ns.waitMem[n] += c.load.mem
			}
		}
	}
	s.RefreshCrashes()
	for n, alive := range ns.alive {
		if alive {
			s.place(int32(n))
		}
	}
}

// RefreshCrashes takes over what the history says of crashes. Call it after History.Crashed and History.Fade.
func (s *Snapshot) RefreshCrashes() {
	clear(s.nodes.crash)
	s.crashed = false
	for image, u := range s.history.Images {
		for node, count := range u.Crashes {
			if n, ok := s.byName[node]; ok {
				s.crashed = true
				if s.nodes.crash[n] == nil {
					s.nodes.crash[n] = map[string]float64{}
				}
				s.nodes.crash[n][image] = count
			}
		}
	}
}

// place keeps the index true after a change of node n.
func (s *Snapshot) place(n int32) {
	ns := &s.nodes
	if ns.fixed[n].Draining {
		s.index.drop(n)
		return
	}
	ns.level[n] = s.levelOf(n)
	s.index.put(rank{level: ns.level[n], n: n, placed: ns.placed[n], hash: ns.hash[n]})
}
