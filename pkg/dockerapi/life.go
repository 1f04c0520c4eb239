package dockerapi

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

func (s *Server) pauseContainer(ctx context.Context, c *call) error {
	return s.change(ctx, c, s.Backend.PauseContainer)
}

func (s *Server) unpauseContainer(ctx context.Context, c *call) error {
	return s.change(ctx, c, s.Backend.UnpauseContainer)
}

func (s *Server) renameContainer(ctx context.Context, c *call) error {
	return s.change(ctx, c, func(ctx context.Context, key triton.ContainerKey) error {
		return s.Backend.RenameContainer(ctx, key, c.query.Get("name"))
	})
}

// change does something to the container of the path, which has no answer.
func (s *Server) change(ctx context.Context, c *call, do func(context.Context, triton.ContainerKey) error) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := do(ctx, key); err != nil {
		return err
	}
	return c.noContent()
}

func (s *Server) topContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	table, err := s.Backend.TopContainer(ctx, key, c.query.Get("ps_args"))
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, container.TopResponse{Titles: table.Titles, Processes: table.Processes})
}
