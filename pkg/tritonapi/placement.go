package tritonapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"github.com/tritond/triton/pkg/auth"
	"github.com/tritond/triton/pkg/sched"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

func (a *API) placement(w http.ResponseWriter, r *http.Request, c auth.Caller) {
	p, err := a.cfg.Node.Placement(r.Context(), c.Tenant, r.PathValue("ref"))
	if err != nil {
		a.fail(w, err)
		return
	}
	var out wire.Placement
	if out.Decision, err = json.Marshal(p.Decision); err != nil {
		a.fail(w, fmt.Errorf("encode a decision: %w", err))
		return
	}
	out.Text = p.Decision.Explain()
	if p.Seen != nil {
		s := seenOf(p.Seen)
		out.Seen = &s
		out.Text += fmt.Sprintf("seen to use %.2f cores and up to %s, over %s\n", s.CPU, units.BytesSize(float64(s.MemoryPeak)), span(s.Seconds))
	}
	a.reply(w, out)
}

const mib = 1 << 20

func seenOf(o *sched.Own) wire.Seen {
	return wire.Seen{Seconds: o.Hours * time.Hour.Seconds(), CPU: o.Mean, MemoryPeak: int64(o.MemPeak * mib)}
}

// span is a time as people write it: 1h5m0s without what says nothing.
func span(seconds float64) string {
	text := time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}
