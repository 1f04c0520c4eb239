package placement

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/sched"
)

// historyFile is the history's name in Config.Dir.
const historyFile = "history.json"

// stored is the file: JSON, of format 1.
type stored struct {
	Format  int            `json:"format"`
	Saved   time.Time      `json:"saved"`
	Margin  sched.Margin   `json:"margin"`
	History *sched.History `json:"history"`
}

const storedFormat = 1

// maxStored bounds the file that is read: several times what sched.MaxImages come to.
const maxStored = 64 << 20

// load reads what save wrote. A missing file is an empty history; a damaged one too, once it is out of the way.
func load(path string, log *slog.Logger) (stored, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return stored{}, fmt.Errorf("make directory of the history of images: %w", err)
	}
	empty := stored{History: sched.NewHistory()}
	b, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return empty, nil
	case err != nil:
		return stored{}, fmt.Errorf("read history of images: %w", err)
	}
	s, err := decode(b)
	if err == nil {
		return s, nil
	}
	aside := path + ".damaged"
	log.Error("history of images is damaged and begins anew", "err", err, "kept", aside)
	if err := os.Rename(path, aside); err != nil {
		return stored{}, fmt.Errorf("put a damaged history of images aside: %w", err)
	}
	return empty, nil
}

// readBounded gives no bytes for a file that is too long: no JSON, so damaged.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxStored {
		return nil, err
	}
	return os.ReadFile(path)
}

func decode(b []byte) (stored, error) {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return stored{}, err
	}
	if s.Format != storedFormat {
		return stored{}, fmt.Errorf("format %d, want %d", s.Format, storedFormat)
	}
	if s.History == nil {
		return stored{}, errors.New("no history")
	}
	return s, s.History.Validate()
}

// save writes the history if it changed and it is time to, or anyway. Run calls it, and nobody else.
func (p *Placement) save(anyway bool) error {
	b, err := p.encode(anyway)
	if err == nil && b == nil {
		return nil
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(p.cfg.Dir, historyFile), func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
	}
	if err == nil {
		err = durable.SyncDir(p.cfg.Dir)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.changed = true
		return fmt.Errorf("save history of images: %w", err)
	}
	p.written = p.saved
	return nil
}

// encode returns nil where there is nothing to write. What changes from now on is the next save's.
func (p *Placement) encode(anyway bool) ([]byte, error) {
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !anyway && (!p.changed || now.Sub(p.saved) < p.cfg.Save) {
		return nil, nil
	}
	p.changed, p.saved = false, now
	return json.Marshal(stored{Format: storedFormat, Saved: now.UTC(), Margin: p.snapshot.Margin(), History: p.history})
}
