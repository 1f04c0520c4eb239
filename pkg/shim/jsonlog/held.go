package jsonlog

import "sync"

// held are a log's files that were opened for a reader before they were removed.
type held struct {
	mu    sync.Mutex
	files logFiles // nil once they were given
	final bool     // the log is complete, and what the path names may be a part of it only
	given bool     // nobody reads any more, or the reader has them
}

// Hold opens all files of the log for the reader, which then gets to the log's end whatever becomes of them: it is called when
// nothing is written any more, before they are removed. One that has ended its reading needs none.
func (r *Reader) Hold() error {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	if r.held.given || r.held.final {
		return nil
	}
	files, err := r.log.openFiles()
	if err != nil {
		return err
	}
	r.held.files, r.held.final = files, true
	return nil
}

// waiting reports whether there are files that the reader has not got.
func (h *held) waiting() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.final && !h.given
}

// open opens the log's files, or gives those that were held, once.
func (h *held) open(log *Log) (logFiles, error) {
	files, err := log.openFiles()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.final {
		return files, err
	}
	if err == nil {
		files.close() // it may be that some were gone already
	}
	files, h.files, h.given = h.files, nil, true
	return files, nil
}

// give closes what the reader has not got, and what comes too late.
func (h *held) give() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files.close()
	h.files, h.given = nil, true
}
