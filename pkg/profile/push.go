package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

const (
	pushEvery     = 15 * time.Second
	pushReadEvery = 500 * time.Millisecond
	// maxQueue bounds the profiles that wait to be named, and those that wait to be uploaded: some 10 KiB each.
	maxQueue = 512
	// namers and senders are how many tenants' profiles are named and uploaded at a time.
	namers, senders = 2, 4
	// maxNaming is how long naming one profile may take.
	maxNaming = 10 * time.Second
	maxTries  = 5
	// firstPause is before the second try; it doubles.
	firstPause = time.Second
)

// PushConfig says where profiles go, and where they come from.
type PushConfig struct {
	URL   string        // of a Pyroscope server, http or https
	Node  string        // label node
	Every time.Duration // how long a profile is taken; 0: 15 s
	Pause time.Duration // before an upload's second try; 0: 1 s
	Taker *Taker
	// Start begins to take stacks of all containers.
	Start func() (Stacks, error)
	// Subjects are the containers that run.
	Subjects func() map[triton.ContainerKey]Subject
	Log      *slog.Logger
}

// Pusher profiles all containers all the time and uploads a profile of each. Tenants are served in turns, so that one whose
// profiles take long to name or to upload delays its own. As a prometheus.Collector it tells of uploads, and of profiles
// and stacks that were lost.
type Pusher struct {
	cfg      PushConfig
	client   *http.Client
	taken    *fair[*Collector]
	named    *fair[upload]
	uploads  prometheus.Counter
	failures *prometheus.CounterVec
	lost     *prometheus.CounterVec
	stacks   *prometheus.CounterVec
}

// upload is a profile that waits.
type upload struct {
	sub         Subject
	from, until time.Time
	body        []byte // pprof
	tries       int
	pause       time.Duration // before the next one
}

// Why profiles are lost.
const (
	lostQueue   = "queue"   // too many waited
	lostTries   = "tries"   // no try was answered well
	lostRefused = "refused" // the server does not want it
	lostNames   = "names"   // could not be made
	lostEnded   = "ended"   // of a container that ended before it was known whose it is
)

// NewPusher checks cfg. Nothing is profiled before Run.
func NewPusher(cfg PushConfig) (*Pusher, error) {
	if err := telemetry.CheckPyroscopeURL(cfg.URL); err != nil {
		return nil, err
	}
	if cfg.Every == 0 {
		cfg.Every = pushEvery
	}
	if cfg.Pause == 0 {
		cfg.Pause = firstPause
	}
	p := &Pusher{
		cfg: cfg, client: telemetry.NewUploadClient(), taken: newFair[*Collector](maxQueue, time.Now), named: newFair[upload](maxQueue, time.Now),
		uploads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "triton_container_profile_uploads_total", Help: "Profiles of containers that the Pyroscope server took.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "triton_container_profile_failures_total", Help: "Tries to upload a container's profile that failed, by reason; most are tried again.",
		}, []string{"reason"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "triton_container_profile_lost_total", Help: "Profiles of containers that were given up, by reason.",
		}, []string{"reason"}),
		stacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "triton_container_profile_stacks_lost_total", Help: "Stacks that are in no profile of a container, or not whole, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"request", "status"} {
		p.failures.WithLabelValues(reason) // present from the start, so that the first failure is an increase
	}
	for _, reason := range []string{lostQueue, lostTries, lostRefused, lostNames, lostEnded} {
		p.lost.WithLabelValues(reason)
	}
	p.addLoss(triton.StackLoss{})
	return p, nil
}

// addLoss counts what was lost of stacks.
func (p *Pusher) addLoss(l triton.StackLoss) {
	p.stacks.WithLabelValues("counts").Add(float64(l.Counts))
	p.stacks.WithLabelValues("stacks").Add(float64(l.Stacks))
	p.stacks.WithLabelValues("broken").Add(float64(l.Broken))
}

// Describe implements prometheus.Collector.
func (p *Pusher) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, out) }

// Collect implements prometheus.Collector.
func (p *Pusher) Collect(out chan<- prometheus.Metric) {
	p.uploads.Collect(out)
	p.failures.Collect(out)
	p.lost.Collect(out)
	p.stacks.Collect(out)
}

// Run profiles until ctx is done; what waits then is lost. It returns nil unless profiling could not begin.
func (p *Pusher) Run(ctx context.Context) error {
	stacks, err := p.cfg.Start()
	if err != nil {
		return fmt.Errorf("profile containers: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.take(ctx, stacks) })
	for range namers {
		g.Go(func() error { return p.name(ctx) })
	}
	for range senders {
		g.Go(func() error { return p.send(ctx) })
	}
	err = errors.Join(g.Wait(), stacks.Close())
	for _, c := range p.taken.rest() {
		c.Close()
	}
	return err
}

// take reads stacks and hands a window's profiles on.
func (p *Pusher) take(ctx context.Context, stacks Stacks) error {
	every := time.NewTicker(min(pushReadEvery, p.cfg.Every))
	defer every.Stop()
	collectors := map[triton.ContainerKey]*Collector{}
	defer func() { closeAll(collectors) }()
	subjects, until := p.cfg.Subjects(), p.cfg.Taker.Now().Add(p.cfg.Every)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		all, loss, err := stacks.Read()
		if err != nil {
			p.cfg.Log.WarnContext(ctx, "stacks not read", "err", err)
			continue
		}
		p.addLoss(loss)
		byKey := map[triton.ContainerKey][]triton.Stack{}
		for _, s := range all {
			byKey[s.Container] = append(byKey[s.Container], s)
		}
		for key, stacks := range byKey {
			if _, known := subjects[key]; !known {
				subjects = p.cfg.Subjects()
			}
			sub, known := subjects[key]
			switch {
			case !known:
				p.lost.WithLabelValues(lostEnded).Inc()
				continue
			case collectors[key] == nil:
				collectors[key] = p.cfg.Taker.collector(sub, triton.OnCPU)
			}
			collectors[key].Add(stacks, triton.StackLoss{})
		}
		if now := p.cfg.Taker.Now(); !now.Before(until) {
			p.hand(collectors)
			collectors, until = map[triton.ContainerKey]*Collector{}, now.Add(p.cfg.Every)
		}
	}
}

// hand hands profiles on to be named.
func (p *Pusher) hand(collectors map[triton.ContainerKey]*Collector) {
	for key, c := range collectors {
		c.end = c.cfg.Now()
		p.addLoss(c.loss)
		if lost, any := p.taken.put(key.Tenant, c); any {
			p.lost.WithLabelValues(lostQueue).Inc()
			lost.Close()
		}
	}
}

func closeAll(collectors map[triton.ContainerKey]*Collector) {
	for _, c := range collectors {
		c.Close()
	}
}

// name names profiles and hands them on to be sent.
func (p *Pusher) name(ctx context.Context) error {
	for {
		tenant, c, ok := p.taken.take(ctx)
		if !ok {
			return nil
		}
		body, err := encode(ctx, c)
		p.taken.done(tenant)
		if err != nil {
			p.lost.WithLabelValues(lostNames).Inc()
			p.cfg.Log.WarnContext(ctx, "profile of a container not made", "container", c.cfg.Subject.Key, "err", err)
			continue
		}
		if _, any := p.named.put(tenant, upload{sub: c.cfg.Subject, from: c.start, until: c.end, body: body, pause: p.cfg.Pause}); any {
			p.lost.WithLabelValues(lostQueue).Inc()
		}
	}
}

// encode finishes c and returns its profile in pprof's form.
func encode(ctx context.Context, c *Collector) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, maxNaming)
	defer cancel()
	made, err := c.Finish(ctx, 0)
	var body bytes.Buffer
	if err == nil {
		err = made.Pprof.Write(&body)
	}
	return body.Bytes(), errors.Join(err, c.Close())
}

// send uploads profiles, each with several tries.
func (p *Pusher) send(ctx context.Context) error {
	for {
		tenant, u, ok := p.named.take(ctx)
		if !ok {
			return nil
		}
		if p.try(ctx, &u) {
			pause := u.pause
			u.pause *= 2
			p.named.again(tenant, u, pause)
			continue
		}
		p.named.done(tenant)
	}
}

// try uploads a profile, and reports whether that is to be tried again: while the failure may pass.
func (p *Pusher) try(ctx context.Context, u *upload) (again bool) {
	u.tries++
	status, err := p.post(ctx, *u)
	passes := err != nil || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
	switch {
	case err == nil && status == http.StatusOK:
		p.uploads.Inc()
		return false
	case err != nil:
		p.failures.WithLabelValues("request").Inc()
	default:
		p.failures.WithLabelValues("status").Inc()
	}
	if passes && u.tries < maxTries {
		return true
	}
	reason := lostTries
	if !passes {
		reason = lostRefused
	}
	p.lost.WithLabelValues(reason).Inc()
	p.cfg.Log.WarnContext(ctx, "profile of a container lost", "container", u.sub.Key, "url", p.cfg.URL, "status", status, "err", err)
	return false
}

// post sends a profile in the form of Pyroscope's /ingest.
func (p *Pusher) post(ctx context.Context, u upload) (status int, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("profile", "profile.pprof")
	if err == nil {
		_, err = part.Write(u.body)
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return 0, err
	}
	to, err := url.Parse(p.cfg.URL)
	if err != nil {
		return 0, err
	}
	to = to.JoinPath("ingest")
	to.RawQuery = url.Values{
		"name": {p.series(u.sub)}, "from": {strconv.FormatInt(u.from.UnixNano(), 10)}, "until": {strconv.FormatInt(u.until.UnixNano(), 10)},
		"spyName": {"tritond"}, "sampleRate": {"99"}, "format": {"pprof"},
	}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), &body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	const most = 64 << 10 // so that the connection can be used again
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, most))
	return resp.StatusCode, err
}

// series is what Pyroscope knows the profiles of a container by: a name and labels.
func (p *Pusher) series(sub Subject) string {
	return fmt.Sprintf("%s{container_id=%s,image=%s,node=%s,tenant=%s}",
		plain(sub.Name), plain(sub.Key.ID), plain(sub.Image), plain(p.cfg.Node), plain(string(sub.Key.Tenant)))
}

// plain leaves what cannot be taken for a part of the form of series.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-/:@", r) {
			return r
		}
		return '_'
	}, s)
}
