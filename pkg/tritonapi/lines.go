package tritonapi

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// lineWrite is how long a client may take to read what there is.
const lineWrite = 10 * time.Second

// lines is an answer of JSON objects, a line each, that come as they happen.
type lines struct {
	w     http.ResponseWriter
	out   *http.ResponseController
	enc   *json.Encoder
	log   *slog.Logger
	begun bool
}

// startLines prepares an answer; until begin it may still be another one. The caller ends it.
func (a *API) startLines(w http.ResponseWriter) *lines {
	return &lines{w: w, out: http.NewResponseController(w), enc: json.NewEncoder(w), log: a.cfg.Log}
}

// begin sends the head.
func (s *lines) begin() {
	s.w.Header().Set("Content-Type", "application/x-ndjson")
	s.begun = true
	if err := s.out.Flush(); err != nil {
		s.log.Debug("answer not sent", "err", err)
	}
}

// line writes one; flush out after the last that there is. A client that reads no more would keep what it asked for, and all it
// costs, for ever, so it has a deadline.
func (s *lines) line(v any) error {
	if err := s.out.SetWriteDeadline(time.Now().Add(lineWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return s.enc.Encode(v)
}

func (s *lines) end() {
	_ = s.out.SetWriteDeadline(time.Time{}) // the connection may be used again; where deadlines are not supported there was none
}
