package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tritond/triton/pkg/triton"
)

// fakeProcess is one program with its streams. Clients attach before it starts.
type fakeProcess struct {
	left   atomic.Int32 // attachments left by the detach keys
	argv   []string
	tty    bool
	size   [2]uint
	stdin  *io.PipeReader
	feed   *io.PipeWriter
	kill   chan int
	done   chan struct{}
	code   int
	mu     sync.Mutex
	out    []*fakeAttachment
	record func(stream string, line []byte)
}

func newFakeProcess(argv []string, tty bool) *fakeProcess {
	r, w := io.Pipe()
	return &fakeProcess{argv: argv, tty: tty, stdin: r, feed: w, kill: make(chan int, 8), done: make(chan struct{}), record: func(string, []byte) {}}
}

func (p *fakeProcess) runnable() error {
	switch p.argv[0] {
	case "missing":
		return errors.New(`failed to create task for container: exec: "missing": executable file not found in $PATH`)
	case "noexec":
		return errors.New(`failed to create task for container: exec: "noexec": permission denied`)
	case "broken":
		return errors.New("the machine is on fire")
	}
	return nil
}

func (p *fakeProcess) run() {
	ended := make(chan int, 1)
	go func() { ended <- p.program() }()
	select {
	case p.code = <-ended:
	case p.code = <-p.kill:
		p.stdin.Close()
	}
	close(p.done)
}

func (p *fakeProcess) program() int {
	switch p.argv[0] {
	case "echo":
		p.print("stdout", strings.Join(p.argv[1:], " ")+"\n")
	case "both":
		p.print("stdout", "out\n")
		p.print("stderr", "err\n")
	case "cat":
		buf := make([]byte, 4096)
		for {
			n, err := p.stdin.Read(buf)
			if n > 0 {
				p.print("stdout", string(buf[:n]))
			}
			if err != nil {
				p.print("stdout", "END\n")
				return 0
			}
		}
	case "exit":
		code, _ := strconv.Atoi(p.argv[1])
		return code
	case "stty":
		p.mu.Lock()
		size := p.size
		p.mu.Unlock()
		p.print("stdout", fmt.Sprintf("%d %d\n", size[0], size[1]))
	case "sleep":
		<-p.done
	}
	return 0
}

func (p *fakeProcess) resize(height, width uint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = [2]uint{height, width}
}

func (p *fakeProcess) print(stream, text string) {
	p.record(stream, []byte(text))
	p.mu.Lock()
	clients := slices.Clone(p.out)
	p.mu.Unlock()
	for _, a := range clients {
		if stream == "stdout" && a.opt.Stdout || stream == "stderr" && a.opt.Stderr {
			select {
			case a.lines <- triton.LogRecord{Stream: stream, Line: []byte(text)}:
			case <-a.closed:
			}
		}
	}
}

func (p *fakeProcess) attach(opt triton.AttachOptions, start func() error) *fakeAttachment {
	a := &fakeAttachment{p: p, opt: opt, start: start, lines: make(chan triton.LogRecord, 64), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, a)
	return a
}

// fakeAttachment serves as backend.go demands.
type fakeAttachment struct {
	p      *fakeProcess
	opt    triton.AttachOptions
	start  func() error
	lines  chan triton.LogRecord
	closed chan struct{}
	once   sync.Once
}

func (a *fakeAttachment) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

func (a *fakeAttachment) LogEnd() *triton.LogPlace { return nil }

func (a *fakeAttachment) Left() { a.p.left.Add(1) }

func (a *fakeAttachment) Serve(ctx context.Context, stdin io.Reader, out io.Writer) error {
	defer a.Close()
	if a.start != nil {
		if err := a.start(); err != nil {
			return err
		}
	}
	detached := make(chan error, 1)
	if stdin != nil {
		go func() {
			_, err := io.Copy(a.p.feed, stdin)
			if err == nil {
				a.p.feed.Close()
				return
			}
			detached <- err
		}()
	}
	w := &recordWriter{out: out, framed: !a.p.tty}
	for {
		select {
		case rec := <-a.lines:
			if err := w.write(rec); err != nil {
				return err
			}
		case <-a.p.done:
			for {
				select {
				case rec := <-a.lines:
					if err := w.write(rec); err != nil {
						return err
					}
				default:
					return nil
				}
			}
		case err := <-detached:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
