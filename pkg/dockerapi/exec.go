package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

func (s *Server) createExec(ctx context.Context, c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	spec, err := decodeExec(raw, s.exec, c.version)
	if err != nil {
		return err
	}
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	if err := admitExec(c.tenant, &spec); err != nil {
		return err
	}
	id, err := s.Backend.CreateExec(ctx, key, spec)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func decodeExec(raw []byte, rules *ruleNode, version apiVersion) (triton.ExecSpec, error) {
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	tree, err := decodeTree(raw)
	if err != nil {
		return triton.ExecSpec{}, err
	}
	if err := rules.check(tree, ""); err != nil {
		return triton.ExecSpec{}, err
	}
	listOfOne(tree, "Cmd")
	var req container.ExecCreateRequest
	if err := decodeTyped(tree, &req); err != nil {
		return triton.ExecSpec{}, err
	}
	if len(req.Cmd) == 0 {
		return triton.ExecSpec{}, invalid("No exec command specified")
	}
	if _, err := parseDetachKeys(req.DetachKeys); err != nil {
		return triton.ExecSpec{}, err
	}
	for _, env := range req.Env {
		if strings.HasPrefix(env, "=") || env == "" {
			return triton.ExecSpec{}, invalid("invalid environment variable: %s", env)
		}
	}
	spec := triton.ExecSpec{
		Argv: req.Cmd, Env: req.Env, WorkingDir: req.WorkingDir, User: req.User, TTY: req.Tty, Privileged: req.Privileged,
		Stdin: req.AttachStdin, Stdout: req.AttachStdout, Stderr: req.AttachStderr, DetachKeys: req.DetachKeys,
	}
	const consoleSizeSince = 42
	if req.ConsoleSize != nil && version >= consoleSizeSince {
		spec.ConsoleSize = *req.ConsoleSize
	}
	return spec, nil
}

// startExec attaches and starts in one. What goes wrong after the answer is written into the stream, as docker does; the
// exit code tells it too (126, 127).
func (s *Server) startExec(ctx context.Context, c *call) error {
	var req container.ExecStartRequest
	tree, err := c.optionalTree()
	if err != nil {
		return err
	}
	if tree != nil {
		if err := decodeTyped(tree, &req); err != nil {
			return err
		}
	}
	key, err := s.Backend.ResolveExec(ctx, c.tenant, c.vars["id"])
	if err != nil {
		return err
	}
	if req.Detach {
		if err := s.Backend.StartExec(context.WithoutCancel(ctx), key); err != nil {
			return startError(err)
		}
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	info, err := s.Backend.InspectExec(ctx, key)
	if err != nil {
		return err
	}
	return s.attachExec(ctx, c, &info, consoleSize(&req, &info, c.version))
}

func consoleSize(req *container.ExecStartRequest, info *triton.Exec, version apiVersion) [2]uint {
	const since = 42
	if req.ConsoleSize != nil && info.Spec.TTY && version >= since {
		return *req.ConsoleSize
	}
	return info.Spec.ConsoleSize
}

func (s *Server) attachExec(ctx context.Context, c *call, info *triton.Exec, size [2]uint) error {
	keys, err := parseDetachKeys(info.Spec.DetachKeys)
	if err != nil {
		return err
	}
	att, err := s.Backend.AttachExec(ctx, info.Key, size)
	if errdefs.IsInvalidArgument(err) {
		return s.refuseExec(ctx, c, info, err)
	}
	if err != nil {
		return startError(err)
	}
	st, err := c.hijack(!info.Spec.TTY)
	if err != nil {
		return errors.Join(err, att.Close())
	}
	served := false
	err = st.serve(ctx, func(ctx context.Context) error {
		served = true
		err := att.Serve(ctx, stdinOf(info.Spec.Stdin, st, info.Spec.TTY, true, keys), st)
		switch {
		case leftByKeys(err):
			att.Left()
		case err != nil && !errors.Is(err, ErrDetached) && ctx.Err() == nil:
			writeFailure(st, !info.Spec.TTY, err)
		}
		return err
	})
	if !served {
		err = errors.Join(err, att.Close())
	}
	s.streamEnded(c, err)
	return nil
}

// refuseExec answers for a process that cannot be what was asked for as for a program that is not there: in the stream.
func (s *Server) refuseExec(ctx context.Context, c *call, info *triton.Exec, why error) error {
	st, err := c.hijack(!info.Spec.TTY)
	if err != nil {
		return errors.Join(why, err)
	}
	err = st.serve(ctx, func(context.Context) error {
		writeFailure(st, !info.Spec.TTY, fmt.Errorf("OCI runtime exec failed: %w", why))
		return nil
	})
	s.streamEnded(c, err)
	return nil
}

// writeFailure puts an error where the user looks for the command's output. docker uses stdout.
func writeFailure(out io.Writer, framed bool, err error) {
	w := &recordWriter{out: out, framed: framed}
	w.begin(stdcopy.Stdout)
	fmt.Fprintf(&w.buf, "%s\r\n", messageOf(err))
	w.end() //nolint:errcheck // the client is gone
}

func (s *Server) resizeExec(ctx context.Context, c *call) error {
	height, width, err := c.dimensions()
	if err != nil {
		return err
	}
	key, err := s.Backend.ResolveExec(ctx, c.tenant, c.vars["id"])
	if err != nil {
		return err
	}
	if err := s.Backend.ResizeExec(ctx, key, height, width); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) inspectExec(ctx context.Context, c *call) error {
	key, err := s.Backend.ResolveExec(ctx, c.tenant, c.vars["id"])
	if err != nil {
		return err
	}
	e, err := s.Backend.InspectExec(ctx, key)
	if err != nil {
		return err
	}
	resp := container.ExecInspectResponse{
		ID: e.Key.ID, Running: e.Running, ExitCode: e.ExitCode, ContainerID: e.Key.Container.ID, Pid: e.Pid,
		OpenStdin: e.Spec.Stdin, OpenStdout: e.Spec.Stdout, OpenStderr: e.Spec.Stderr, CanRemove: e.ExitCode != nil,
		ProcessConfig: &container.ExecProcessConfig{Tty: e.Spec.TTY, Privileged: &e.Spec.Privileged, User: e.Spec.User, Arguments: []string{}},
	}
	if keys, err := parseDetachKeys(e.Spec.DetachKeys); err == nil && e.Spec.DetachKeys != "" {
		resp.DetachKeys = keys
	}
	if len(e.Spec.Argv) > 0 {
		resp.ProcessConfig.Entrypoint = e.Spec.Argv[0]
		resp.ProcessConfig.Arguments = e.Spec.Argv[1:]
	}
	return c.json(http.StatusOK, resp)
}
