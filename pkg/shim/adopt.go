package shim

import (
	"context"
	"errors"
	"log/slog"
)

func adopt(ctx context.Context, req AdoptRequest, logs *slog.Logger, lookup ExitLookup) (*container, AdoptReply, error) {
	return nil, AdoptReply{}, errors.New("adopt: not yet")
}
