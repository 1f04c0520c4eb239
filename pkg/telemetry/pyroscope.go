package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/grafana/pyroscope-go"
	"github.com/prometheus/client_golang/prometheus"
)

// PyroscopeConfig says where this program's own profiles go.
type PyroscopeConfig struct {
	URL  string        // of the server, http or https
	Node string        // label node of the profiles
	Rate time.Duration // between uploads; 0: 15 s
	Log  *slog.Logger
}

// Pyroscope profiles this program, processor and memory, and uploads the profiles. As a prometheus.Collector it tells of
// uploads and failures: the SDK tries each upload once and only logs what fails.
type Pyroscope struct {
	cfg      PyroscopeConfig
	uploads  prometheus.Counter
	failures *prometheus.CounterVec
}

// Reasons of failures.
const (
	failedRequest = "request" // no answer
	failedStatus  = "status"  // an answer other than 200
	failedQueue   = "queue"   // dropped: too many uploads waited
)

// adhocAddress is a variable that the SDK prefers to the address that it was given.
const adhocAddress = "PYROSCOPE_ADHOC_SERVER_ADDRESS"

// NewPyroscope checks cfg. Nothing is profiled before Run.
func NewPyroscope(cfg PyroscopeConfig) (*Pyroscope, error) {
	if err := CheckPyroscopeURL(cfg.URL); err != nil {
		return nil, err
	}
	if other, ok := os.LookupEnv(adhocAddress); ok {
		return nil, fmt.Errorf("profile to %s: the variable %s=%s would take its place: unset it", cfg.URL, adhocAddress, other)
	}
	p := &Pyroscope{
		cfg: cfg,
		uploads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "triton_pyroscope_uploads_total", Help: "Profiles of the daemon that the server took.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "triton_pyroscope_failures_total", Help: "Profiles of the daemon that were lost, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{failedRequest, failedStatus, failedQueue} {
		p.failures.WithLabelValues(reason) // present from the start, so that the first failure is an increase
	}
	return p, nil
}

// CheckPyroscopeURL tells what is wrong with an address.
func CheckPyroscopeURL(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("must be http://HOST[:PORT] or https://HOST[:PORT]")
	}
	return nil
}

// lastUploads is how long the end of Run may take: a server that hangs must not hold up the daemon's end.
const lastUploads = 2 * time.Second

// Run profiles until ctx is done, then uploads what there is. It returns nil unless profiling could not begin.
func (p *Pyroscope) Run(ctx context.Context) error {
	uploading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	profiler, err := pyroscope.Start(pyroscope.Config{
		ApplicationName: "tritond", Tags: map[string]string{"node": p.cfg.Node}, ServerAddress: p.cfg.URL, UploadRate: p.cfg.Rate,
		ProfileTypes: []pyroscope.ProfileType{
			pyroscope.ProfileCPU, pyroscope.ProfileAllocObjects, pyroscope.ProfileAllocSpace,
			pyroscope.ProfileInuseObjects, pyroscope.ProfileInuseSpace,
		},
		DisableGCRuns: true, // a collection each 15 s would be our doing, and in our profile
		Logger:        uploadLog{p},
		HTTPClient:    uploader{p: p, ctx: uploading, client: NewUploadClient()},
	})
	if err != nil {
		return fmt.Errorf("profile to %s: %w", p.cfg.URL, err)
	}
	<-ctx.Done()
	defer time.AfterFunc(lastUploads, cancel).Stop()
	return profiler.Stop()
}

// Describe implements prometheus.Collector.
func (p *Pyroscope) Describe(out chan<- *prometheus.Desc) {
	p.uploads.Describe(out)
	p.failures.Describe(out)
}

// Collect implements prometheus.Collector.
func (p *Pyroscope) Collect(out chan<- prometheus.Metric) {
	p.uploads.Collect(out)
	p.failures.Collect(out)
}

// uploader counts what becomes of uploads. Its context lives as long as Run: the SDK's requests have none of their own.
type uploader struct {
	p      *Pyroscope
	ctx    context.Context
	client *http.Client
}

// NewUploadClient returns a client for uploads: with a limit of time and of connections, and without redirects.
func NewUploadClient() *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxConnsPerHost: 5, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment},
		// A redirect would carry the profile elsewhere without what authorised it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answerMax bounds what is kept of an answer, which the SDK reads whole.
const answerMax = 64 << 10

// Do implements the SDK's HTTPClient.
func (u uploader) Do(r *http.Request) (*http.Response, error) {
	resp, err := u.client.Do(r.WithContext(u.ctx))
	switch {
	case err != nil:
		u.p.failures.WithLabelValues(failedRequest).Inc()
		return nil, err
	case resp.StatusCode != http.StatusOK:
		u.p.failures.WithLabelValues(failedStatus).Inc()
	default:
		u.p.uploads.Inc()
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, answerMax), resp.Body}
	return resp, nil
}

// uploadLog passes the SDK's log on, and counts the one failure that it tells nowhere else.
type uploadLog struct{ p *Pyroscope }

// Infof is the first of the SDK's Logger.
func (l uploadLog) Infof(format string, args ...any) { l.p.cfg.Log.Debug(fmt.Sprintf(format, args...)) }

// Debugf says nothing: see Infof.
func (l uploadLog) Debugf(format string, args ...any) {}

// Errorf counts what went wrong: see Infof.
func (l uploadLog) Errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if strings.Contains(text, "queue is full") {
		l.p.failures.WithLabelValues(failedQueue).Inc()
	}
	l.p.cfg.Log.Warn("profile of the daemon lost", "url", l.p.cfg.URL, "err", text)
}
