package throttle

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Handler passes requests on to next when it is their turn. whose tells the tenant of a request; false: it is not bounded. effort tells
// what it takes. Where too many wait the answer is 429, in the form of the Docker API. A server with ConnContext lets a request wait only while its
// client does.
func (t *Throttle) Handler(next http.Handler, whose func(*http.Request) (triton.Tenant, bool), effort func(*http.Request) Effort) http.Handler {
	if t.cfg.Share == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, bounded := whose(r)
		if !bounded {
			next.ServeHTTP(w, r)
			return
		}
		e := effort(r)
		ctx, stop := whileConnected(r)
		turn, err := t.Enter(ctx, tenant, e)
		stop()
		if err != nil {
			refuse(w, err)
			return
		}
		defer turn.Leave()
		out := &writer{ResponseWriter: w, turn: turn, measured: e.Measured}
		if e.Measured {
			defer out.measure()()
		}
		next.ServeHTTP(out, r)
	})
}

// refuse answers a request that does not get its turn: too many wait, its client is gone, or the daemon ends.
func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusServiceUnavailable
	if errors.Is(err, errdefs.ErrResourceExhausted) {
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	body := struct {
		Message string `json:"message"`
	}{strings.TrimSuffix(err.Error(), ": "+errdefs.ErrResourceExhausted.Error())}
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client is gone
}

// writer knows when an answer begins.
type writer struct {
	http.ResponseWriter
	turn     *Turn
	measured bool
	clock    time.Duration // of the thread, when measuring began
	running  bool          // the goroutine is bound to its thread
	bytes    int
}

// measure binds the goroutine to its thread, whose processor time is then the request's. What it returns charges the request with
// the rest, and is called by the same goroutine.
func (w *writer) measure() func() {
	runtime.LockOSThread()
	w.running, w.clock = true, threadTime()
	return func() {
		w.begin()
		w.turn.Charge(time.Duration(w.bytes)) // a nanosecond each
	}
}

// begin is called before the answer's first byte, which may have to wait for the client: a thread of its own and a place are not for that.
func (w *writer) begin() {
	if w.running {
		w.running = false
		w.turn.Charge(threadTime() - w.clock)
		runtime.UnlockOSThread()
	}
	w.turn.Idle()
}

// threadTime is the processor time of the calling thread; 0 if the kernel does not tell.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// WriteHeader begins the answer.
func (w *writer) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += n
	return n, err
}

// FlushError is how http.ResponseController flushes.
func (w *writer) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack makes the connection the handler's.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap is for what else http.ResponseController does.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
