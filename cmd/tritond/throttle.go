package main

import (
	"crypto/x509"
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

// holder tells the tenant of a certificate that is not an operator's.
func holder(cert *x509.Certificate) (triton.Tenant, bool, error) {
	tenant, operator, err := auth.Holder(cert)
	return tenant, !operator, err
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

// throttleMetrics tell what became of tenants' requests. Of a tenant there are series once it asked for something.
func throttleMetrics(turns *throttle.Throttle) prometheus.Collector {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return byTenant[throttle.Stats]{turns.Stats, []tenantSeries[throttle.Stats]{
		{tenantDesc("triton_tenant_requests_total", "Requests of a tenant's clients that got their turn."), counter,
			func(s throttle.Stats) float64 { return float64(s.Requests) }},
		{tenantDesc("triton_tenant_request_cpu_seconds_total",
			"Processor time that they were charged with: measured for lists and inspect, by their kind for others."), counter,
			func(s throttle.Stats) float64 { return s.CPU.Seconds() }},
		{tenantDesc("triton_tenant_requests_delayed_total", "Requests that did not get their turn at once."), counter,
			func(s throttle.Stats) float64 { return float64(s.Waited) }},
		{tenantDesc("triton_tenant_request_delay_seconds_total", "For how long they waited, all together."), counter,
			func(s throttle.Stats) float64 { return s.Wait.Seconds() }},
		{tenantDesc("triton_tenant_requests_refused_total", "Requests that were answered 429, because --api-waiting of the tenant's waited already."), counter,
			func(s throttle.Stats) float64 { return float64(s.Refused) }},
		{tenantDesc("triton_tenant_requests_waiting", "Requests that wait for their turn now."), gauge,
			func(s throttle.Stats) float64 { return float64(s.Waiting) }},
	}}
}

// connectionMetrics tell of the connections by TLS that tenants have.
func connectionMetrics(conns *throttle.Connections) prometheus.Collector {
	return byTenant[throttle.ConnectionStats]{conns.Stats, []tenantSeries[throttle.ConnectionStats]{
		{tenantDesc("triton_tenant_connections", "Connections by TLS that a tenant's clients have open."), prometheus.GaugeValue,
			func(s throttle.ConnectionStats) float64 { return float64(s.Open) }},
		{tenantDesc("triton_tenant_connections_refused_total", "Connections that were refused, because the tenant had --api-connections already."),
			prometheus.CounterValue, func(s throttle.ConnectionStats) float64 { return float64(s.Refused) }},
	}}
}
