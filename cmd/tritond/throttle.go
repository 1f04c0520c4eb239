package main

import (
	"net/http"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/dockerapi"
	"github.com/tritond/triton/pkg/throttle"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// throttle is how the throttle takes --api-cpu and --api-waiting.
func (c *config) throttle() throttle.Config {
	return throttle.Config{Share: float64(c.APICPU) / 100 * float64(runtime.NumCPU()), Waiting: c.APIWaiting.n}
}

// payer tells the tenant of a request that is not an operator's. Operators own the machine, and must get through when it is busy.
func payer(r *http.Request) (triton.Tenant, bool) {
	c, ok := auth.FromContext(r.Context())
	return c.Tenant, ok && !c.Operator
}

// ownEffort is what a request to a path of our own takes, or to the page. Some of them last.
func ownEffort(*http.Request) throttle.Effort { return throttle.Effort{CPU: 4 * throttle.Least} }

// effort is what a request to an address of the Docker API takes, where our own paths are served too.
func effort(docker *dockerapi.Server) func(*http.Request) throttle.Effort {
	return func(r *http.Request) throttle.Effort {
		if strings.HasPrefix(r.URL.Path, wire.Prefix) {
			return ownEffort(r)
		}
		return docker.Effort(r)
	}
}

// throttleMetrics tells what became of tenants' requests. Of a tenant there are series once it asked for something.
type throttleMetrics struct{ throttle *throttle.Throttle }

func throttleDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("triton_tenant_"+name, help, []string{"tenant"}, nil)
}

var (
	turnsDesc   = throttleDesc("requests_total", "Requests of a tenant's clients that got their turn.")
	turnCPUDesc = throttleDesc("request_cpu_seconds_total",
		"Processor time that they were charged with: measured for lists and inspect, by their kind for others.")
	delayedDesc = throttleDesc("requests_delayed_total", "Requests that did not get their turn at once.")
	delayDesc   = throttleDesc("request_delay_seconds_total", "For how long they waited, all together.")
	turnedDesc  = throttleDesc("requests_refused_total", "Requests that were answered 429, because --api-waiting of the tenant's waited already.")
	waitingDesc = throttleDesc("requests_waiting", "Requests that wait for their turn now.")
)

// Describe implements prometheus.Collector.
func (throttleMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{turnsDesc, turnCPUDesc, delayedDesc, delayDesc, turnedDesc, waitingDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m throttleMetrics) Collect(ch chan<- prometheus.Metric) {
	for tenant, s := range m.throttle.Stats() {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, string(tenant))
		}
		send(turnsDesc, prometheus.CounterValue, float64(s.Requests))
		send(turnCPUDesc, prometheus.CounterValue, s.CPU.Seconds())
		send(delayedDesc, prometheus.CounterValue, float64(s.Waited))
		send(delayDesc, prometheus.CounterValue, s.Wait.Seconds())
		send(turnedDesc, prometheus.CounterValue, float64(s.Refused))
		send(waitingDesc, prometheus.GaugeValue, float64(s.Waiting))
	}
}
