package placement

import (
	"context"
	"time"

	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/triton"
)

// Place decides whether a new container may be here and, if so, reserves what it is promised until it is started or a minute has
// passed. The error of a refusal is a *sched.Refusal of the kind errdefs.ErrResourceExhausted; a constraint or label that makes
// no sense is errdefs.ErrInvalidArgument. Call Drop if the container is not made after all.
func (p *Placement) Place(ctx context.Context, c Container) (sched.Decision, error) {
	r, err := p.request(c)
	if err != nil {
		return sched.Decision{}, err
	}
	images, err := p.present(ctx, &r)
	if err != nil {
		return sched.Decision{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.place(r, images)
}

// place decides and, if the answer is yes, reserves. A container that is here already counts as if it were not.
func (p *Placement) place(r sched.Request, images []string) (sched.Decision, error) {
	now := p.cfg.Now()
	old := p.containers[r.Key]
	if old != nil {
		p.snapshot.Park(r.Key)
	}
	p.snapshot.Advance(now)
	here := p.node
	here.Images = images
	if err := p.snapshot.SetNode(here); err != nil {
		return sched.Decision{}, err
	}
	d, err := sched.Place(p.snapshot, r)
	p.metrics.decided(&d, err)
	switch {
	case err == nil:
		p.assign(r)
		if old == nil {
			p.containers[r.Key] = &container{req: r, phase: reserved, since: now}
			break
		}
		if old.req = r; old.phase == parked {
			old.phase, old.since = reserved, now
		}
	case old != nil && old.phase != parked:
		p.assign(old.req)
	}
	return d, err
}

// assign cannot fail: the node is there and the request was checked.
func (p *Placement) assign(r sched.Request) {
	if _, err := p.snapshot.Assign(p.cfg.Node, r); err != nil {
		p.log.Error("container not counted", "container", r.Key, "err", err)
	}
}

// Keep takes in a container that was placed by an earlier daemon and does not run, as far as is known yet.
func (p *Placement) Keep(c Container) {
	r, err := p.request(c)
	if err != nil { // as made by a daemon that did not read its constraints
		r = sched.Request{Key: c.Key, Name: c.Name, Image: imageName(c.Spec.Image), ImageID: c.Spec.ImageID, BestEffort: true}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.assign(r)
	p.snapshot.Park(r.Key)
	p.containers[r.Key] = &container{req: r, since: p.cfg.Now()}
}

// Admit decides again about a container that is to be started by hand, where its reservation has lapsed; nil without an error:
// it has not. Errors are those of Place.
func (p *Placement) Admit(ctx context.Context, key triton.ContainerKey) (*sched.Decision, error) {
	r, lapsed := p.lapsed(key)
	if !lapsed {
		return nil, nil
	}
	images, err := p.present(ctx, &r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.place(r, images)
	return &d, err
}

func (p *Placement) lapsed(key triton.ContainerKey) (sched.Request, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[key]
	if c == nil || c.phase != parked {
		return sched.Request{}, false
	}
	return c.req, true
}

// Started tells that a container's control group was made just now: from here on it counts with what it uses, and the work of
// starting it is its own. A restart by policy is asked nothing: it had its promise.
func (p *Placement) Started(key triton.ContainerKey) {
	now := p.cfg.Now()
	p.run(key, now, meter{at: now})
}

// Resumed tells that a container which an earlier daemon started still runs. What it used before is not new.
func (p *Placement) Resumed(key triton.ContainerKey) { p.run(key, p.cfg.Now(), meter{}) }

func (p *Placement) run(key triton.ContainerKey, now time.Time, m meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[key]
	if c == nil || c.phase == running {
		return
	}
	if c.phase == parked {
		p.assign(c.req)
	}
	c.phase, c.since, c.meter = running, now, m
}

// End is how a run ended.
type End struct {
	At      time.Time
	Usage   *triton.Usage // the last reading; nil: nobody took one
	Crashed bool          // by a signal or the OOM killer, or with a status other than 0, and nobody asked for it
	Again   bool          // its policy starts it again: it keeps its reservation
}

// Ended tells that a run is over, or that a start failed (the zero End).
func (p *Placement) Ended(key triton.ContainerKey, e End) {
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[key]
	if c == nil {
		return
	}
	of := sched.Origin{Tenant: key.Tenant, Image: c.req.Image, ImageID: c.req.ImageID}
	if e.Usage != nil && c.phase == running {
		c.meter.last(e, p.node.CPU)
		if p.observe(c, now) {
			p.history.RunEnded(of)
		}
	}
	if e.Crashed {
		p.history.Crashed(of, p.cfg.Node)
		p.snapshot.RefreshCrashes()
		p.changed = true
	}
	if e.Again {
		c.phase, c.since, c.meter = reserved, now, meter{}
		return
	}
	p.park(key, c, now)
}

func (p *Placement) park(key triton.ContainerKey, c *container, now time.Time) {
	p.snapshot.Park(key)
	c.phase, c.since, c.meter = parked, now, meter{}
}

// Change decides about new settings of a container: a promise that cannot be kept is refused, and the old one stays. nil
// without an error: it does not run, so its next start decides.
func (p *Placement) Change(ctx context.Context, c Container) (*sched.Decision, error) {
	r, err := p.request(c)
	if err != nil {
		return nil, err
	}
	images, err := p.present(ctx, &r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.containers[c.Key]
	switch {
	case old == nil:
		return nil, nil
	case old.phase == parked || r.CPU <= old.req.CPU && r.Memory <= old.req.Memory: // nothing more is promised
		p.replace(old, r)
		return nil, nil
	}
	d, err := p.place(r, images)
	return &d, err
}

// Rename gives a container the name that affinities find it by.
func (p *Placement) Rename(key triton.ContainerKey, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.containers[key]; c != nil {
		r := c.req
		r.Name = name
		p.replace(c, r)
	}
}

// replace changes what a container is without a decision.
func (p *Placement) replace(c *container, r sched.Request) {
	c.req = r
	p.assign(r)
	if c.phase == parked {
		p.snapshot.Park(r.Key)
	}
}

// Drop tells that a container is gone.
func (p *Placement) Drop(key triton.ContainerKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.snapshot.Release(key)
	delete(p.containers, key)
}

// Seen is what a container was seen to use since the daemon started, by its own samples. False: nothing yet.
func (p *Placement) Seen(key triton.ContainerKey) (sched.Own, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot.Seen(key)
}
