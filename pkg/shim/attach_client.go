package shim

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/tritond/triton/pkg/triton"
)

// Stream is an attached connection. Output may be read by one goroutine while another writes stdin.
type Stream struct {
	// Output yields docker's stream frames, or a terminal's raw bytes, and io.EOF once the process's output ended (or the
	// shim died: Wait tells which). Delivery is lossless; not reading stops the container's output.
	Output io.Reader
	// LogEnd is where the log ended when Output began, which goes on from there; nil: not asked for, or not known.
	LogEnd *triton.LogPlace

	cn *conn
	mu sync.Mutex // orders stdin frames
}

// Attach opens a stream to the container's first process (req.ID empty) or to an exec, on a connection of its own.
// Output from before is not repeated, but for what is not in the log yet with req.AfterLog. ctx bounds the opening only.
func (c *Client) Attach(ctx context.Context, req AttachRequest) (*Stream, error) {
	cn, _, err := dial(ctx, c.path, c.hello)
	if err != nil {
		return nil, fmt.Errorf("shim %s: attach: %w", c.path, gone(err))
	}
	var reply *AttachReply
	if err := cn.call(ctx, VerbAttach, req, &reply, nil); err != nil {
		cn.Close()
		return nil, fmt.Errorf("shim %s: %w", c.path, gone(err))
	}
	s := &Stream{Output: cn.UnixConn, cn: cn}
	if reply != nil {
		s.LogEnd = &reply.LogEnd
	}
	return s, nil
}

// WriteStdin sends p to the process's standard input. It blocks while the process does not read.
func (s *Stream) WriteStdin(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := 0
	for len(p) > 0 {
		part := p[:min(len(p), maxStdinFrame)]
		frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(part)), uint32(len(part)))
		if _, err := s.cn.Write(append(frame, part...)); err != nil {
			return sent, gone(err)
		}
		sent += len(part)
		p = p[len(part):]
	}
	return sent, nil
}

// CloseStdin says that this client's input ended. Output goes on.
func (s *Stream) CloseStdin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.cn.Write(make([]byte, 4))
	return gone(err)
}

// Close detaches. Standard input stays open for other clients unless CloseStdin was called.
func (s *Stream) Close() error { return s.cn.Close() }

// maxStdinFrame is how much stdin one frame carries: what the shim buffers per client.
const maxStdinFrame = 32 << 10
