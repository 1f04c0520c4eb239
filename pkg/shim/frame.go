package shim

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// errFrameTooLong ends a connection: its length field cannot be trusted, so there is no next frame to find.
var errFrameTooLong = errors.New("frame longer than the protocol allows")

// readFrame returns the payload of the next frame. io.EOF means that the peer closed between frames,
// io.ErrUnexpectedEOF that it closed within one. Memory grows with the bytes that came, not with the length announced.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("%d bytes: %w", n, errFrameTooLong)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf.Bytes(), nil
}

// encodeFrame returns v as one frame, to be sent by one write.
func encodeFrame(v any) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	if len(payload) > MaxFrame {
		return nil, fmt.Errorf("%d bytes: %w", len(payload), errFrameTooLong)
	}
	frame := make([]byte, 4, 4+len(payload))
	binary.BigEndian.PutUint32(frame, uint32(len(payload)))
	return append(frame, payload...), nil
}

// readMessage decodes the next frame into v.
func readMessage(r io.Reader, v any) error {
	payload, err := readFrame(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("decode frame: %w", err)
	}
	return nil
}

// encodeRequest returns a request of the given verb as a frame; body nil means that the verb has none.
func encodeRequest(verb Verb, body any) ([]byte, error) {
	req := Request{Verb: verb}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", verb, err)
		}
		req.Body = raw
	}
	return encodeFrame(req)
}
