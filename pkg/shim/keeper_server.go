package shim

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// KeeperConfig is what RunKeeper needs.
type KeeperConfig struct {
	Socket  string
	Version string
	Logger  *slog.Logger
}

// maxHeldPerRun bounds what one run of a container may leave with the keeper, so that a fetch fits into one message.
const maxHeldPerRun = 240

// keeper holds copies of descriptors, and does nothing with them: no container's output passes through it.
type keeper struct {
	cfg  KeeperConfig
	stop func()

	cores coreSocket

	mu   sync.Mutex
	held map[heldRun]map[HeldFD]*os.File
}

type heldRun struct {
	key triton.ContainerKey
	run int
}

// RunKeeper serves the keeper's verbs on cfg.Socket until ctx ends or shutdown was asked for while nothing is held. What
// is held then is closed: the keeper is the last to know of it.
func RunKeeper(ctx context.Context, cfg KeeperConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &keeper{cfg: cfg, stop: cancel, cores: coreSocket{log: cfg.Logger}, held: map[heldRun]map[HeldFD]*os.File{}}
	ln, err := listen(cfg.Socket)
	if err != nil {
		return err
	}
	err = accept(ctx, ln, cfg.Logger, k.serve)
	k.closeAll()
	return errors.Join(err, k.cores.drop())
}

// serve answers one connection.
func (k *keeper) serve(ctx context.Context, cn *conn) {
	leased := false
	defer func() {
		if leased {
			k.cores.leave()
		}
	}()
	for {
		var req Request
		err := readMessage(cn, &req)
		files := cn.takeFiles()
		if err != nil {
			closeFiles(files)
			return
		}
		body, reply, err := k.answer(req, files)
		closeFiles(files)
		if req.Verb == VerbCores && len(reply) > 0 && !leased {
			leased = true
			k.cores.enter()
		}
		if !respond(cn, body, err, reply) {
			return
		}
		if req.Verb == VerbShutdown && err == nil {
			k.stop()
			return
		}
	}
}

// answer does one request; files are the caller's to close, so what stays is duplicated.
func (k *keeper) answer(req Request, files []*os.File) (body any, reply []*os.File, err error) {
	switch req.Verb {
	case VerbHello:
		return HelloReply{Protocol: ProtocolVersion, Version: k.cfg.Version, Pid: os.Getpid()}, nil, nil
	case VerbHandoff:
		r, err := decode[HandoffRequest](req)
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, k.hold(r, files)
	case VerbRelease:
		r, err := decode[ReleaseRequest](req)
		if err != nil {
			return nil, nil, err
		}
		k.release(r)
		return nil, nil, nil
	case VerbFetch:
		r, err := decode[FetchRequest](req)
		if err != nil {
			return nil, nil, err
		}
		return k.fetch(r)
	case VerbCores:
		r, err := decode[CoresRequest](req)
		if err != nil {
			return nil, nil, err
		}
		if r.Drop {
			return nil, nil, k.cores.drop()
		}
		f, err := k.cores.open(r.Path)
		if err != nil {
			return nil, nil, err
		}
		return nil, []*os.File{f}, nil
	case VerbShutdown:
		return nil, nil, k.mayStop()
	}
	return nil, nil, &Error{Kind: KindUnsupported, Message: "keeper: unknown verb " + string(req.Verb)}
}

func (k *keeper) hold(r HandoffRequest, files []*os.File) error {
	if len(r.FDs) != len(files) || len(files) == 0 {
		return invalid("handoff: %d descriptors, %d names", len(files), len(r.FDs))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	id := heldRun{r.Key, r.Run}
	run := k.held[id]
	if run == nil {
		run = map[HeldFD]*os.File{}
		k.held[id] = run
	}
	if len(run)+len(files) > maxHeldPerRun {
		return conflict("handoff: %s has %d descriptors here", r.Key, len(run))
	}
	for i, name := range r.FDs {
		copied, err := dup(files[i])
		if err != nil {
			return err
		}
		at := HeldFD{Exec: r.Exec, Name: name}
		if old := run[at]; old != nil {
			old.Close()
		}
		run[at] = copied
	}
	return nil
}

func (k *keeper) release(r ReleaseRequest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := heldRun{r.Key, r.Run}
	for at, f := range k.held[id] {
		if r.Exec == "" || r.Exec == at.Exec {
			f.Close()
			delete(k.held[id], at)
		}
	}
	if len(k.held[id]) == 0 {
		delete(k.held, id)
	}
}

func (k *keeper) fetch(r FetchRequest) (any, []*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	run := k.held[heldRun{r.Key, r.Run}]
	reply := FetchReply{FDs: slices.Collect(maps.Keys(run))}
	var files []*os.File
	for _, at := range reply.FDs {
		f, err := dup(run[at]) // the original may be released before the answer is sent
		if err != nil {
			closeFiles(files)
			return nil, nil, err
		}
		files = append(files, f)
	}
	return reply, files, nil
}

func (k *keeper) mayStop() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) > 0 {
		return conflict("keeper holds descriptors of %d containers", len(k.held))
	}
	return nil
}

func (k *keeper) closeAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, run := range k.held {
		for _, f := range run {
			f.Close()
		}
	}
	clear(k.held)
}

func decode[T any](req Request) (T, error) {
	var v T
	if err := json.Unmarshal(req.Body, &v); err != nil {
		return v, invalid("%s: %v", req.Verb, err)
	}
	return v, nil
}
