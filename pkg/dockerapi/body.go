package dockerapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// maxBody bounds a JSON request body. A create body with long environments has kilobytes; docker sets no bound.
const maxBody = 4 << 20

// body reads a JSON request body. It is empty when the client sent none. The content type must be JSON when there is a body.
func (c *call) body() ([]byte, error) {
	if err := checkJSON(c.r); err != nil {
		return nil, err
	}
	if c.r.Body == nil || c.r.ContentLength == 0 {
		return nil, nil
	}
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return nil, fmt.Errorf("request body: %w", err)
		}
		return nil, invalid("request body: %v", err)
	}
	return raw, nil
}

func checkJSON(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && (r.Body == nil || r.ContentLength == 0) {
		return nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return invalid("malformed Content-Type header (%s): %v", ct, err)
	}
	if media != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// decodeTree reads one JSON value and nothing behind it. Numbers stay as written.
func decodeTree(raw []byte) (any, error) {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, invalid("invalid JSON: got EOF while reading request body")
		}
		return nil, invalid("invalid JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("unexpected content after JSON")
	}
	return tree, nil
}

// optionalTree reads a body that need not be there: nil then.
func (c *call) optionalTree() (any, error) {
	raw, err := c.body()
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	return decodeTree(raw)
}

// decodeTyped fills out from a tree that the rules have passed.
func decodeTyped(tree, out any) error {
	raw, err := json.Marshal(tree)
	if err != nil {
		return invalid("invalid JSON: %v", err)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return invalid("invalid JSON: %v", err)
	}
	return nil
}
