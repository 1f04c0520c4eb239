package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/tritond/triton/pkg/shim"
)

// keeperLog is where the keeper's complaints go, below the run root.
const keeperLog = "keeper.log"

// ensureKeeper finds the keeper or starts one. A new one holds nothing: shims that talk to it hand over again.
func (r *Runtime) ensureKeeper(ctx context.Context) error {
	k, err := r.dialKeeper(ctx)
	if err == nil {
		return k.Close()
	}
	if !isGone(err) {
		return err
	}
	r.mu.Lock()
	closed, old := r.closed, r.keeper
	r.mu.Unlock()
	if closed {
		return nil
	}
	if old != nil {
		r.log.Error("keeper died: what it held is lost", "said", tail(old.log))
	}
	p := &process{id: "keeper", socket: r.path(keeperSocket), log: r.path(keeperLog)}
	if err := r.spawn(p, "keep"); err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	err = r.await(ctx, p, func(ctx context.Context) error {
		k, err := r.dialKeeper(ctx)
		if err == nil {
			err = k.Close()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	r.mu.Lock()
	r.keeper = p
	r.mu.Unlock()
	return nil
}

// Keeper connects to the keeper, which the caller closes.
func (r *Runtime) Keeper(ctx context.Context) (*shim.Keeper, error) { return r.dialKeeper(ctx) }

func (r *Runtime) dialKeeper(ctx context.Context) (*shim.Keeper, error) {
	k, _, err := shim.DialKeeper(ctx, r.path(keeperSocket), r.hello())
	return k, err
}

// dismissKeeper ends a keeper that holds nothing; it refuses else.
func (r *Runtime) dismissKeeper(ctx context.Context) error {
	k, err := r.dialKeeper(ctx)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	err = k.Shutdown(ctx)
	var refused *shim.Error
	if errors.As(err, &refused) && refused.Kind == shim.KindConflict {
		return nil
	}
	r.mu.Lock()
	r.keeper = nil
	r.mu.Unlock()
	removeFiles(&process{socket: r.path(keeperSocket), log: r.path(keeperLog)})
	return err
}

// release makes the keeper let go of what it holds for a run, where no shim is left to say so.
func (r *Runtime) release(ctx context.Context, c claim) error {
	k, err := r.dialKeeper(ctx)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	return k.Release(ctx, shim.ReleaseRequest{Key: c.Key, Run: c.Run})
}
