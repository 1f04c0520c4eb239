package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ExitStatus is what the daemon's pinned exit program saw of a process.
type ExitStatus struct {
	WaitStatus uint32 // as task->exit_code has it
	At         time.Time
	Ended      bool
}

// ExitLookup reads the pinned exit map at a bpffs path; false: it knows nothing of the process.
type ExitLookup func(path string, pid int) (ExitStatus, bool, error)

// ServerConfig is what Serve needs.
type ServerConfig struct {
	Socket  string
	Version string // build version of this binary
	Logger  *slog.Logger
	// LookupExit finds the exit status of an adopted process; nil: nobody recorded it.
	LookupExit ExitLookup
	// Enter is the path of cmd/triton-enter; empty, or without a file: libcontainer starts execs.
	Enter string
	// FirstContact is how long a shim nobody ever connected to stays; zero: a minute.
	FirstContact time.Duration
}

// server is one shim: idle until create or adopt gives it its container.
type server struct {
	cfg   ServerConfig
	stop  func() // ends Serve
	enter *enterer

	mu         sync.Mutex
	generation uint64 // the highest seen
	conns      int    // greeted connections
	claiming   bool   // create or adopt is under way
	container  *container
}

// Serve runs a shim until its container was deleted, it was shut down, or, while it waits in the pool, until its daemon
// is gone: when the last connection to an idle shim ends, so does the shim. ctx is for tests; ending it leaves the
// container alone.
func Serve(ctx context.Context, cfg ServerConfig) error {
	if cfg.FirstContact == 0 {
		cfg.FirstContact = time.Minute
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{cfg: cfg, stop: cancel, enter: openEnterer(cfg.Enter)}
	ln, err := listen(cfg.Socket)
	if err != nil {
		return err
	}
	lonely := time.AfterFunc(cfg.FirstContact, s.stopIfIdle)
	defer lonely.Stop()
	var warmed sync.WaitGroup
	defer warmed.Wait()
	warmed.Go(func() {
		if err := warm(); err != nil {
			cfg.Logger.Warn("warm up", "err", err)
		}
	})
	return accept(ctx, ln, cfg.Logger, s.serve)
}

// serve answers one connection: hello first, then requests in order, until attach makes a stream of it.
func (s *server) serve(ctx context.Context, cn *conn) {
	session := &session{server: s, cn: cn}
	defer s.leave(session)
	for {
		var req Request
		err := readMessage(cn, &req)
		files := cn.takeFiles()
		if err != nil {
			closeFiles(files)
			return
		}
		if req.Verb == VerbAttach && session.greeted {
			closeFiles(files)
			if session.attach(req) {
				return
			}
			continue
		}
		body, err := session.answer(ctx, req, files)
		closeFiles(files)
		ok := respond(cn, body, err, nil)
		if err == nil && (req.Verb == VerbDelete || req.Verb == VerbShutdown) {
			s.stop()
			return
		}
		if !ok {
			return
		}
	}
}

// leave ends an idle shim with its last connection.
func (s *server) leave(c *session) {
	s.mu.Lock()
	if c.greeted {
		s.conns--
	}
	s.mu.Unlock()
	if c.greeted {
		s.stopIfIdle()
	}
}

func (s *server) stopIfIdle() {
	s.mu.Lock()
	idle := s.conns == 0 && s.container == nil && !s.claiming
	s.mu.Unlock()
	if idle {
		s.stop()
	}
}

// greet checks a hello and counts the connection.
func (s *server) greet(h Hello, first bool) (HelloReply, error) {
	if h.Protocol < MinProtocolVersion || h.Protocol > ProtocolVersion {
		return HelloReply{}, &Error{Kind: KindUnsupported, Message: fmt.Sprintf("protocol %d: this shim speaks %d to %d",
			h.Protocol, MinProtocolVersion, ProtocolVersion)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation = max(s.generation, h.Generation)
	if first {
		s.conns++
	}
	reply := HelloReply{Protocol: ProtocolVersion, Version: s.cfg.Version, Pid: os.Getpid()}
	if c := s.container; c != nil {
		reply.Container, reply.Run = &c.req.Key, c.req.Run
	}
	return reply, nil
}

// fenced refuses a daemon of an older generation than one that came later.
func (s *server) fenced(generation uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if generation < s.generation {
		return &Error{Kind: KindFenced, Message: fmt.Sprintf("generation %d is over: %d has taken over", generation, s.generation)}
	}
	return nil
}

// held returns the container, or the refusal where there is none.
func (s *server) held() (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.container == nil {
		return nil, conflict("this shim holds no container")
	}
	return s.container, nil
}

// claim runs make, which gives the shim its container, once.
func (s *server) claim(make func() (*container, error)) (*container, error) {
	s.mu.Lock()
	if s.container != nil || s.claiming {
		s.mu.Unlock()
		return nil, conflict("this shim holds a container already")
	}
	s.claiming = true
	s.mu.Unlock()
	c, err := make()
	s.mu.Lock()
	s.claiming = false
	if err == nil {
		s.container = c
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// mayStop refuses shutdown while the container lives.
func (s *server) mayStop() error {
	if c, err := s.held(); err == nil && c.init.ended() == nil {
		return conflict("container is alive")
	}
	return nil
}

// errNoHello refuses whatever comes before hello.
var errNoHello = errors.New("hello must come first")
