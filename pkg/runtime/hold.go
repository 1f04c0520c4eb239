package runtime

import (
	"context"
	"fmt"
	"os"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

const (
	// heldRun is where the keeper's index has what the node leaves there for a container: no run has a number below 1.
	// Each further bundle takes the next lower number.
	heldRun = -1
	// heldPerBundle stays below what the keeper takes for one run, and a message can carry.
	heldPerBundle = 200
)

// Hold leaves copies of descriptors with the keeper until LetGo, over a kill of the daemon. files stay the caller's.
func (r *Runtime) Hold(ctx context.Context, key triton.ContainerKey, files []*os.File) error {
	if len(files) == 0 {
		return nil
	}
	k, err := r.dialKeeper(ctx)
	if err != nil {
		return fmt.Errorf("leave descriptors of %s with the keeper: %w", key, err)
	}
	defer k.Close()
	for run := heldRun; len(files) > 0; run-- {
		n := min(len(files), heldPerBundle)
		req := shim.HandoffRequest{Key: key, Run: run}
		for i := range n {
			req.FDs = append(req.FDs, fmt.Sprint(i))
		}
		if err := k.Handoff(ctx, req, files[:n]); err != nil {
			return fmt.Errorf("leave descriptors of %s with the keeper: %w", key, err)
		}
		files = files[n:]
	}
	return nil
}

// Held returns copies of what Hold left, in no order; none where no keeper lives. They are the caller's to close.
func (r *Runtime) Held(ctx context.Context, key triton.ContainerKey) ([]*os.File, error) {
	k, err := r.dialKeeper(ctx)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch descriptors of %s from the keeper: %w", key, err)
	}
	defer k.Close()
	var files []*os.File
	for run := heldRun; ; run-- {
		held, err := k.Fetch(ctx, shim.FetchRequest{Key: key, Run: run})
		if err != nil {
			return files, fmt.Errorf("fetch descriptors of %s from the keeper: %w", key, err)
		}
		for _, h := range held {
			files = append(files, h.File)
		}
		if len(held) < heldPerBundle {
			return files, nil
		}
	}
}

// LetGo makes the keeper close what Hold left, count descriptors at most; no keeper, or nothing held, is no error.
func (r *Runtime) LetGo(ctx context.Context, key triton.ContainerKey, count int) error {
	if count == 0 {
		return nil
	}
	k, err := r.dialKeeper(ctx)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release descriptors of %s at the keeper: %w", key, err)
	}
	defer k.Close()
	for run := heldRun; count > 0; run, count = run-1, count-heldPerBundle {
		if err := k.Release(ctx, shim.ReleaseRequest{Key: key, Run: run}); err != nil {
			return fmt.Errorf("release descriptors of %s at the keeper: %w", key, err)
		}
	}
	return nil
}
