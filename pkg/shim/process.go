package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// process is the container's first process (id empty) or an exec.
type process struct {
	id    string
	io    *stdio
	fan   *fan
	pumps []*pump

	lc   *libcontainer.Process // nil: libcontainer did not start it
	ours bool                  // without libcontainer, and our child; neither: adopted
	oom  uint64                // the container's OOM kills when it was made

	done chan struct{} // closed once exit is set, written and the output is in the log

	closing sync.Once

	mu    sync.Mutex
	pid   int
	start uint64
	pidfd *os.File
	ends  bool // no signal may be sent: the end was seen
	exit  *triton.ExitRecord
}

func newProcess(id string, cfg Stdio) *process {
	return &process{id: id, io: newStdio(cfg), fan: &fan{framed: !cfg.TTY}, done: make(chan struct{})}
}

// identify notes who the process is once it runs.
func (p *process) identify(pid int) error {
	start, err := startTime(pid)
	if err != nil {
		return err
	}
	pidfd, err := openPidfd(pid)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.start, p.pidfd = pid, start, pidfd
	return nil
}

// who returns the process's id on the host and its start time; zero before it runs.
func (p *process) who() ProcessReply {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ProcessReply{Pid: p.pid, StartTime: p.start}
}

// pump starts the goroutines that move the output. Their end is awaited by settle and close.
func (p *process) pump(w *jsonlog.Writer) {
	p.fan.setLog(w)
	for _, s := range p.io.streams {
		pm := newPump(s, w, p.fan)
		p.pumps = append(p.pumps, pm)
		go pm.run()
	}
	go func() {
		for _, pm := range p.pumps {
			<-pm.ended
		}
		p.fan.close()
	}()
}

// drained waits until the output of a process that has ended is in the log and in the queues of the clients. Where a
// descendant holds it open, that is what was written until drainBound has passed; where that one fills even endWindow, the
// wait is no longer than the bound again.
func (p *process) drained() {
	p.fan.widen(endWindow)
	late := time.NewTimer(2 * drainBound)
	defer late.Stop()
	for _, pm := range p.pumps {
		pm.drain(drainBound)
	}
	for _, pm := range p.pumps {
		select {
		case <-pm.drained:
		case <-pm.ended:
		case <-late.C:
			return
		}
	}
}

// signal sends sig unless the process has ended.
func (p *process) signal(sig int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd == nil {
		return &Error{Kind: KindConflict, Message: "process not started"}
	}
	if p.ends {
		return &Error{Kind: KindNotFound, Message: "process has ended"}
	}
	err := signalPidfd(p.pidfd, sig)
	if errors.Is(err, syscall.ESRCH) {
		return &Error{Kind: KindNotFound, Message: "process has ended"}
	}
	if errors.Is(err, syscall.EINVAL) {
		return &Error{Kind: KindInvalid, Message: fmt.Sprintf("no signal %d", sig)}
	}
	return err
}

// ended returns the exit record, or nil while the process lives or its output is being drained.
func (p *process) ended() *triton.ExitRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

func (p *process) setEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends = true
}

func (p *process) setExit(rec triton.ExitRecord) {
	p.mu.Lock()
	p.exit = &rec
	p.mu.Unlock()
	close(p.done)
}

// wait blocks until the record is there.
func (p *process) wait(ctx context.Context) (triton.ExitRecord, error) {
	select {
	case <-p.done:
		return *p.ended(), nil
	case <-ctx.Done():
		return triton.ExitRecord{}, context.Cause(ctx)
	}
}

// end kills the process, unless it has just ended, and waits for its record.
func (p *process) end(ctx context.Context) error {
	err := p.signal(int(syscall.SIGKILL))
	var told *Error
	if errors.As(err, &told) && told.Kind == KindNotFound {
		err = nil
	}
	_, waitErr := p.wait(ctx)
	return errors.Join(err, waitErr)
}

// reap returns the wait status of our own child that has ended.
func (p *process) reap() (uint32, error) {
	if p.ours {
		return waitChild(p.pid)
	}
	state, err := p.lc.Wait()
	if state == nil {
		return 0, fmt.Errorf("reap %d: %w", p.pid, err)
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, fmt.Errorf("reap %d: no wait status in %T", p.pid, state.Sys())
	}
	return uint32(ws), nil
}

// outputEnded reports whether all output is in the log and in the queues of the clients.
func (p *process) outputEnded() bool {
	for _, pm := range p.pumps {
		select {
		case <-pm.ended:
		default:
			return false
		}
	}
	return true
}

// close releases the descriptors, once; whoever calls it, it is done when it returns. The process must have ended. Clients
// still get what waits for them if its output has ended too; if a descendant holds that open they are cut off, for one that
// does not read would hold the pumps.
func (p *process) close() { p.closing.Do(p.release) }

func (p *process) release() {
	if p.outputEnded() {
		p.fan.close()
	}
	p.fan.abort() // those who are left
	for _, pm := range p.pumps {
		_ = pm.stream.src.SetReadDeadline(time.Unix(1, 0)) // in the past: ends the pump's read; a closed source has ended it
		pm.stream.src.Close()
		<-pm.ended
	}
	p.fan.close()
	p.io.close()
	if p.pidfd != nil {
		p.pidfd.Close()
	}
}

// recordName names the file of an exit record.
func recordName(execID string) string {
	if execID == "" {
		return "exit.json"
	}
	return "exec-" + execID + ".json"
}

// writeRecord writes an exit record so that it is either whole or absent. It is not synced: after a crash of the host
// the container is gone as well. A full data disk is no reason to lose an exit code: the record then goes to the run
// directory, which is on tmpfs, and the error is returned.
func (c *container) writeRecord(rec triton.ExitRecord) error {
	err := writeJSON(filepath.Join(c.req.ExitDir, recordName(rec.ExecID)), rec)
	if err != nil {
		err = errors.Join(err, writeJSON(filepath.Join(c.req.RunDir, recordName(rec.ExecID)), rec))
	}
	return err
}

// readRecord returns the record of a process that ended earlier; os.ErrNotExist: there is none.
func readRecord(dir, execID string) (triton.ExitRecord, error) {
	var rec triton.ExitRecord
	err := readJSON(filepath.Join(dir, recordName(execID)), &rec)
	return rec, err
}

// writeJSON replaces path by v, atomically; mode 0600.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Base(path), err), os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", filepath.Base(path), err)
	}
	return nil
}
