package shim

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/shim/jsonlog"
)

// drainBound is how long the end of a process waits for output that a descendant may still write; dockerd waits as
// long for its stream copiers (moby daemon/monitor.go).
const drainBound = 2 * time.Second

// clientWindow is how many bytes may wait for one attached client before it stops the container's output.
const clientWindow = 1 << 20

// endWindow is clientWindow once the process has ended, with room for all that its two pipes can still hold (1 MiB each where
// a user has them enlarged, /proc/sys/fs/pipe-max-size): a client that does not read holds up neither the end nor the log,
// and loses nothing. Only a descendant that goes on writing into the pipe can fill it.
const endWindow = clientWindow + 2<<20 + 2*stepSize

// scratchKept is the largest encode buffer kept between reads: a container that was noisy once does not hold megabytes.
const scratchKept = 64 << 10

// pump moves one stream to the log and the attached clients until it ends.
type pump struct {
	stream *stream
	log    *jsonlog.Writer // nil: not logged
	fan    *fan

	drained chan struct{} // closed when the bound of drain has passed
	ended   chan struct{} // closed by run: the output is in the log and in the clients' queues
}

func newPump(s *stream, w *jsonlog.Writer, f *fan) *pump {
	return &pump{stream: s, log: w, fan: f, drained: make(chan struct{}), ended: make(chan struct{})}
}

// run is the pump's goroutine. The log comes before the clients: what they make wait is on disk.
func (p *pump) run() {
	defer close(p.ended)
	drained := sync.OnceFunc(func() { close(p.drained) })
	var scratch []byte
	log := func(final bool) []*client {
		return p.fan.logged(p.stream.label, func() []byte {
			scratch = p.stream.log(p.log, scratch, final)
			return p.stream.unlogged()
		})
	}
	log(false) // what an adopted stream had left over
	for {
		data, err := p.stream.next()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			log(true)
			_ = p.stream.src.SetReadDeadline(time.Time{}) // fails when closed: the next read says so
			drained()
			continue
		}
		if err != nil { // io.EOF, or closed by delete
			log(true)
			return
		}
		clients := log(false)
		if cap(scratch) > scratchKept {
			scratch = nil
		}
		p.fan.send(clients, p.stream.label, data)
	}
}

// drain asks the pump to finish within the bound: at the end of the stream, or when the bound has passed, what came
// until then is in the log and p.ended or p.drained is closed.
func (p *pump) drain(bound time.Duration) {
	if p.stream.src.SetReadDeadline(time.Now().Add(bound)) != nil {
		return // closed: the pump ends by itself
	}
}

// fan hands a process's output to the clients attached to it.
type fan struct {
	framed bool // stream frames; false: a terminal's raw bytes

	mu       sync.Mutex
	clients  []*client
	window   int // of each client; zero: clientWindow
	closed   bool
	log      *jsonlog.Writer   // nil: none
	unlogged map[string][]byte // by stream: what clients were sent and the log does not have yet, the beginning of a line
}

// client is one attached connection. Its goroutine writes what waits; the pump blocks while its window is full.
type client struct {
	conn           *net.UnixConn
	stdout, stderr bool

	mu      sync.Mutex
	changed sync.Cond // on mu
	queue   [][]byte
	waiting int  // bytes in queue
	window  int  // the most of them
	ending  bool // nothing more will come
	dead    bool // the peer is gone
}

func newClient(cn *net.UnixConn, req AttachRequest) *client {
	c := &client{conn: cn, stdout: req.Stdout, stderr: req.Stderr, window: clientWindow}
	c.changed.L = &c.mu
	return c
}

func (f *fan) setLog(w *jsonlog.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = w
}

// add attaches c; false: the output has ended already. With afterLog it gets what is not in the log first, and the reply says
// where that one ends; nil: there is none.
func (f *fan) add(c *client, afterLog bool) (bool, *AttachReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var reply *AttachReply
	if afterLog && f.log != nil {
		end, err := f.log.End()
		if err != nil {
			return false, nil, err
		}
		reply = &AttachReply{LogEnd: end}
		for label, data := range f.unlogged {
			if c.wants(label) {
				c.push(f.frame(label, data)) // waits for nothing: less than a line of each stream
			}
		}
	}
	if f.closed {
		return false, reply, nil
	}
	if f.window > 0 {
		c.widen(f.window)
	}
	f.clients = append(f.clients, c)
	return true, reply, nil
}

// logged has write write what came of a stream to the log, and returns those who are to get it: a client that is attached at
// another moment finds it either in the log or among what it is sent. write returns what is not in the log yet.
func (f *fan) logged(label string, write func() (unlogged []byte)) []*client {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := write()
	switch {
	case len(left) == 0:
		delete(f.unlogged, label)
	case f.unlogged == nil:
		f.unlogged = map[string][]byte{}
		fallthrough
	default:
		f.unlogged[label] = append(f.unlogged[label][:0], left...)
	}
	return append([]*client(nil), f.clients...)
}

func (c *client) wants(label string) bool {
	return label == streamStdout && c.stdout || label == streamStderr && c.stderr
}

// widen gives each client so much room.
func (f *fan) widen(window int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = window
	for _, c := range f.clients {
		c.widen(window)
	}
}

// send hands data to those of the clients that want the stream. It blocks while one of them has too much waiting: docker's
// attach is lossless, so back pressure reaches the container.
func (f *fan) send(clients []*client, label string, data []byte) {
	if len(clients) == 0 {
		return
	}
	chunk := f.frame(label, data)
	for _, c := range clients {
		if c.wants(label) && !c.push(chunk) {
			f.remove(c)
		}
	}
}

// frame copies data, which the stream will overwrite, behind docker's stream header where the process has no terminal.
func (f *fan) frame(label string, data []byte) []byte {
	if !f.framed {
		return append([]byte(nil), data...)
	}
	kind := byte(1)
	if label == streamStderr {
		kind = 2
	}
	chunk := make([]byte, 8, 8+len(data))
	chunk[0] = kind
	binary.BigEndian.PutUint32(chunk[4:], uint32(len(data)))
	return append(chunk, data...)
}

func (f *fan) remove(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, have := range f.clients {
		if have == c {
			f.clients = append(f.clients[:i], f.clients[i+1:]...)
			return
		}
	}
}

// close tells the clients that the output ended; they get what waits for them first. Once it returns, whoever called it,
// all have been told.
func (f *fan) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.clients {
		c.end()
	}
	f.clients, f.closed = nil, true
}

// abort cuts the clients off, so that none can hold the pump.
func (f *fan) abort() {
	f.mu.Lock()
	clients := append([]*client(nil), f.clients...)
	f.mu.Unlock()
	for _, c := range clients {
		c.kill()
	}
}

// push queues chunk, shared with other clients and not to be changed. False: the client is gone.
func (c *client) push(chunk []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.dead && c.waiting > 0 && c.waiting+len(chunk) > c.window {
		c.changed.Wait()
	}
	if c.dead {
		return false
	}
	c.queue = append(c.queue, chunk)
	c.waiting += len(chunk)
	c.changed.Broadcast()
	return true
}

// write is the client's goroutine: it sends what waits until the output ended or the peer is gone. At the end of the output
// the connection is closed for writing only: with input that nobody read yet, a close would be a reset, and the peer would
// take an error for the end.
func (c *client) write() {
	ended := false
	defer func() {
		if !ended || c.conn.CloseWrite() != nil {
			c.kill()
		}
	}()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.ending && !c.dead {
			c.changed.Wait()
		}
		queue := c.queue
		c.queue = nil
		dead := c.dead
		c.mu.Unlock()
		if dead || len(queue) == 0 {
			ended = !dead
			return
		}
		for _, chunk := range queue {
			if _, err := c.conn.Write(chunk); err != nil {
				return
			}
			c.mu.Lock()
			c.waiting -= len(chunk)
			c.changed.Broadcast()
			c.mu.Unlock()
		}
	}
}

func (c *client) widen(window int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window = window
	c.changed.Broadcast()
}

func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.changed.Broadcast()
}

// release ends a client with its server, unless it only has to take what waits for it.
func (c *client) release() {
	c.mu.Lock()
	ending := c.ending
	c.mu.Unlock()
	if !ending {
		c.kill()
	}
}

func (c *client) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.dead = true
	c.conn.Close()
	c.changed.Broadcast()
}
