package wire

import (
	"net/url"

	"github.com/tritond/triton/pkg/triton"
)

// TracePath streams the system calls of a running container, a JSON object of triton.TraceEvent a line, from the moment of the
// answer's head on. Parameters: syscall (a pattern as "open*"; repeatable), errors, memory (booleans), slower (a duration), comm.
func TracePath(ref string, q TraceQuery) string {
	v := url.Values{"syscall": q.Patterns}
	for name, on := range map[string]bool{"errors": q.Errors, "memory": q.Memory} {
		if on {
			v.Set(name, "true")
		}
	}
	if q.Slower > 0 {
		v.Set("slower", q.Slower.String())
	}
	if q.Comm != "" {
		v.Set("comm", q.Comm)
	}
	return Prefix + "containers/" + url.PathEscape(ref) + "/trace?" + v.Encode()
}

// TraceQuery is a filter whose calls are named by patterns.
type TraceQuery struct {
	Patterns []string
	triton.TraceFilter
}
