package dockerapi

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"
)

func (s *Server) pauseContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := s.Backend.PauseContainer(ctx, key); err != nil {
		return err
	}
	return c.noContent()
}

func (s *Server) unpauseContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := s.Backend.UnpauseContainer(ctx, key); err != nil {
		return err
	}
	return c.noContent()
}

func (s *Server) renameContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := s.Backend.RenameContainer(ctx, key, c.query.Get("name")); err != nil {
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
