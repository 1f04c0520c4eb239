package dashboard

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

// Path is where the websocket is; TerminalPath with a container's id or name behind it is a terminal.
const (
	Path         = "/triton/v1/ws"
	TerminalPath = "/triton/v1/terminal/"
)

// Caller is who sent a request, as the login says.
type Caller struct {
	Name   string
	Tenant triton.Tenant
	// Exec: may run programs in the tenant's containers.
	Exec bool
	// Operator: may see what is about the machine.
	Operator bool
	// Ambient: the login came by itself, as a cookie does, so that a foreign page could have made the browser send it.
	Ambient bool
}

// Containers is what the page shows of the containers of a node. Each key carries the caller's tenant.
type Containers interface {
	ListContainers(ctx context.Context, tenant triton.Tenant) ([]triton.Container, error)
	ResolveContainer(ctx context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error)
	// Changes is another number whenever ListContainers may give something else.
	Changes() uint64
	ContainerLogs(ctx context.Context, key triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error
}

// Telemetry is where samples are read.
type Telemetry interface {
	Last(key triton.ContainerKey) (telemetry.Sample, bool)
	Newest(key triton.ContainerKey, n int) []telemetry.Sample
	Window(key triton.ContainerKey) []telemetry.Sample
	CPU(key triton.ContainerKey) []telemetry.CPUReading
	Passed() <-chan struct{}
}

// Events is the journal: Stream gives the kept events since a time, then new ones until ctx ends.
type Events interface {
	Stream(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error
}

// Terminals runs programs with a terminal.
type Terminals interface {
	CreateExec(ctx context.Context, key triton.ContainerKey, spec triton.ExecSpec) (string, error)
	InspectExec(ctx context.Context, key triton.ExecKey) (triton.Exec, error)
	ResizeExec(ctx context.Context, key triton.ExecKey, height, width uint) error
	// AttachExec gives the terminal's bytes; Serve starts the program.
	AttachExec(ctx context.Context, key triton.ExecKey, size [2]uint) (Terminal, error)
}

// Terminal is one program's terminal. Serve copies until its output ends, ctx ends or in fails.
type Terminal interface {
	Serve(ctx context.Context, in io.Reader, out io.Writer) error
	Close() error
}

// Config is what a Hub is made of.
type Config struct {
	Version string
	// Boot differs between two runs of the daemon: frames' numbers begin anew with it.
	Boot       string
	Node       string
	Containers Containers
	Telemetry  Telemetry
	Events     Events
	Terminals  Terminals
	// Caller says who sent a request; an error refuses it with 401. It is asked again each Recheck while a socket is open.
	Caller func(*http.Request) (Caller, error)
	// Recheck is how long an ended login may go on unnoticed; 0: 60 s.
	Recheck time.Duration
	// Missing gives the programs that do not run here; nil: none.
	Missing func() []string
	// Level tells how much is measured; nil: the page does not say. Call Hub.LevelChanged when it has changed.
	Level func() Level
	Log   *slog.Logger
	Now   func() time.Time
}

// Handler serves the websocket and the terminals.
func (h *Hub) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, h.serveSocket)
	mux.HandleFunc("GET "+TerminalPath+"{ref}", h.serveTerminal)
	return mux
}
