package dockerapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// key finds the container of the request's path.
func (s *Server) key(ctx context.Context, c *call) (triton.ContainerKey, error) {
	return s.Backend.ResolveContainer(ctx, c.tenant, c.vars["id"])
}

// named finds the container that a query or body names.
func (s *Server) named(ctx context.Context, c *call, ref string) (triton.ContainerKey, error) {
	if ref == "" {
		return triton.ContainerKey{}, invalid("invalid name or ID supplied: %q", ref)
	}
	return s.Backend.ResolveContainer(ctx, c.tenant, ref)
}

func (s *Server) startContainer(ctx context.Context, c *call) error {
	const emptyObject = 7 // as docker: shorter bodies are "{}" or white space
	if c.r.ContentLength > emptyObject || c.r.ContentLength == -1 {
		return invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if c.query.Get("checkpoint") != "" {
		return invalid("checkpoint is only supported in experimental mode")
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	// A start goes on though the client hang up: half a start helps nobody.
	if err := s.Backend.StartContainer(context.WithoutCancel(ctx), key); err != nil {
		return startError(err)
	}
	return c.noContent()
}

// stopSignalSince is the API version from which stop and restart take a signal.
const stopSignalSince = 42

func (s *Server) stopContainer(ctx context.Context, c *call) error {
	return s.stopWith(ctx, c, s.Backend.StopContainer)
}

func (s *Server) restartContainer(ctx context.Context, c *call) error {
	return s.stopWith(ctx, c, func(ctx context.Context, key triton.ContainerKey, signal string, timeout *int) error {
		return startError(s.Backend.RestartContainer(ctx, key, signal, timeout))
	})
}

func (s *Server) stopWith(ctx context.Context, c *call, do func(context.Context, triton.ContainerKey, string, *int) error) error {
	timeout, err := c.query.seconds("t")
	if err != nil {
		return err
	}
	signal := ""
	if c.version >= stopSignalSince {
		signal = c.query.Get("signal")
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	// Like start, and as docker has it: a stop that was begun is finished though the client hang up.
	if err := do(context.WithoutCancel(ctx), key, signal, timeout); err != nil {
		return err
	}
	return c.noContent()
}

func (s *Server) killContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", c.vars["id"], err)
	}
	if err := s.Backend.KillContainer(ctx, key, c.query.Get("signal")); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", c.vars["id"], err)
	}
	return c.noContent()
}

func (s *Server) removeContainer(ctx context.Context, c *call) error {
	if c.query.bool("link") {
		return s.removeLink(ctx, c)
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := s.Backend.RemoveContainer(context.WithoutCancel(ctx), key, c.query.bool("force"), c.query.bool("v")); err != nil {
		return err
	}
	return c.noContent()
}

// removeLink takes a link of the default network away: container/alias, as docker ps --no-trunc and inspect show it.
func (s *Server) removeLink(ctx context.Context, c *call) error {
	name, alias, ok := strings.Cut(strings.TrimPrefix(c.vars["id"], "/"), "/")
	if !ok {
		return invalid("Conflict, cannot remove the default link name of the container")
	}
	key, err := s.Backend.ResolveContainer(ctx, c.tenant, name)
	if err != nil {
		return err
	}
	if err := s.Backend.RemoveLink(ctx, key, alias); err != nil {
		return err
	}
	return c.noContent()
}

func (s *Server) resizeContainer(ctx context.Context, c *call) error {
	height, width, err := c.dimensions()
	if err != nil {
		return err
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := s.Backend.ResizeContainer(ctx, key, height, width); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) dimensions() (height, width uint, err error) {
	if height, err = c.query.size("h", "height"); err != nil {
		return 0, 0, err
	}
	width, err = c.query.size("w", "width")
	return height, width, err
}

// waitContainer sends its header before it waits: docker run starts the container only when it has seen it.
func (s *Server) waitContainer(ctx context.Context, c *call) error {
	until := triton.WaitCondition(c.query.Get("condition"))
	switch until {
	case "":
		until = triton.WaitNotRunning
	case triton.WaitNotRunning, triton.WaitNextExit, triton.WaitRemoved:
	default:
		return invalid("invalid condition: %q", until)
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	wait, err := s.Backend.WaitContainer(ctx, key, until)
	if err != nil {
		return err
	}
	if err := c.flushHeader("application/json"); err != nil {
		return err
	}
	record, err := wait(ctx)
	if errors.Is(err, context.Canceled) {
		return err // the client has gone
	}
	resp := container.WaitResponse{StatusCode: int64(record.Code)}
	if err != nil {
		resp.Error = &container.WaitExitError{Message: messageOf(err)}
	}
	return json.NewEncoder(c.w).Encode(&resp)
}
