package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keeper holds the blocks of several runs in a file, one in a line, so that a measurement may be taken in parts. Without a path
// it holds nothing.
type keeper struct{ path string }

// kept is a line.
type kept struct {
	Service string `json:"service"`
	Level   string `json:"level"`
	Block   block  `json:"block"`
}

// read returns what earlier runs kept of a service at a level.
func (k keeper) read(service, level string) (blocks []block, err error) {
	if k.path == "" {
		return nil, nil
	}
	all, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(all) {
		var one kept
		if err := json.Unmarshal(line, &one); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", k.path, line, err)
		}
		if one.Service == service && one.Level == level {
			blocks = append(blocks, one.Block)
		}
	}
	return blocks, nil
}

// add appends a block.
func (k keeper) add(service, level string, b block) (err error) {
	if k.path == "" {
		return nil
	}
	f, err := os.OpenFile(k.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return json.NewEncoder(f).Encode(kept{service, level, b})
}
