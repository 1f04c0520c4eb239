package shim

import (
	"encoding/binary"
	"io"
)

// attach turns cn into a stream of p's output and input. It returns when the client has closed it, which clients do once the
// output has ended.
func attach(cn *conn, p *process, req AttachRequest) {
	c := newClient(cn.UnixConn, req)
	attached, reply, err := p.fan.add(c, req.AfterLog)
	cn.carry(c)
	var body any
	if reply != nil {
		body = reply
	}
	if !respond(cn, body, err, nil) || err != nil {
		p.fan.remove(c)
		c.kill()
		return
	}
	if !attached {
		c.end() // the output has ended: so does the stream
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.write()
		p.fan.remove(c)
	}()
	input(cn, p.io, req.Stdin)
	if hungUp(cn.fd(), 0) { // POLLHUP: closed altogether, not just for writing
		c.kill()
	}
	<-done
}

// input reads a client's stdin frames until it ends, detaches or breaks the protocol. Input that nobody takes any more,
// or that was not asked for, is dropped: the client finds out from the end of the output.
func input(cn *conn, to *stdio, wanted bool) {
	buf := make([]byte, 512)
	for {
		var head [4]byte
		if _, err := io.ReadFull(cn, head[:]); err != nil {
			return // a detach: stdin stays open
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n > MaxFrame {
			return
		}
		if n == 0 {
			if wanted && to.cfg.StdinOnce {
				to.closeStdin()
			}
			continue
		}
		for n > 0 {
			if n > len(buf) && len(buf) < maxStdinFrame {
				buf = make([]byte, maxStdinFrame) // an idle client keeps the small one
			}
			part := buf[:min(n, len(buf))]
			if _, err := io.ReadFull(cn, part); err != nil {
				return
			}
			n -= len(part)
			if wanted && to.writeStdin(part) != nil {
				wanted = false
			}
		}
	}
}
