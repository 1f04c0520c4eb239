package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

// pathStatHeader tells clients what they are about to copy, as base64 of JSON.
const pathStatHeader = "X-Docker-Container-Path-Stat"

// archiveTarget reads what these endpoints are about: a container, and the path that is a parameter.
func (s *Server) archiveTarget(ctx context.Context, c *call) (key triton.ContainerKey, path string, err error) {
	if path = c.query.Get("path"); path == "" {
		return key, "", invalid("bad parameter: path")
	}
	key, err = s.key(ctx, c)
	return key, path, err
}

// pathError tells of a path that is not there in docker's words.
func pathError(err error, path, ref string) error {
	var at *fs.PathError
	if errors.As(err, &at) && at.Op == "lstat" && errors.Is(at, fs.ErrNotExist) {
		return notFound("Could not find the file %s in container %s", path, ref)
	}
	return err
}

func setPathStat(h http.Header, st *triton.PathStat) error {
	raw, err := json.Marshal(container.PathStat{Name: st.Name, Size: st.Size, Mode: st.Mode, Mtime: st.Mtime, LinkTarget: st.LinkTarget})
	if err != nil {
		return err
	}
	h.Set(pathStatHeader, base64.StdEncoding.EncodeToString(raw))
	return nil
}

func (s *Server) statArchive(ctx context.Context, c *call) error {
	key, path, err := s.archiveTarget(ctx, c)
	if err != nil {
		return err
	}
	st, err := s.Backend.StatPath(ctx, key, path)
	if err != nil {
		return pathError(err, path, c.vars["id"])
	}
	if err := setPathStat(c.w.Header(), &st); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) getArchive(ctx context.Context, c *call) error {
	key, path, err := s.archiveTarget(ctx, c)
	if err != nil {
		return err
	}
	err = s.Backend.ReadFiles(ctx, key, path, func(st triton.PathStat) error {
		if err := setPathStat(c.w.Header(), &st); err != nil {
			return err
		}
		return c.flushHeader("application/x-tar")
	}, c.w)
	return s.cutIfBegun(c, pathError(err, path, c.vars["id"]))
}

func (s *Server) putArchive(ctx context.Context, c *call) error {
	key, path, err := s.archiveTarget(ctx, c)
	if err != nil {
		return err
	}
	err = s.Backend.WriteFiles(ctx, key, triton.UnpackRequest{
		Path: path, KeepKinds: c.query.bool("noOverwriteDirNonDir"), AsUser: c.query.bool("copyUIDGID"),
	}, c.r.Body)
	if err != nil {
		return pathError(err, path, c.vars["id"])
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) exportContainer(ctx context.Context, c *call) error {
	key, err := s.key(ctx, c)
	if err != nil {
		return err
	}
	err = s.Backend.ExportFiles(ctx, key, func() error { return c.flushHeader("application/octet-stream") }, c.w)
	return s.cutIfBegun(c, err)
}

// cutIfBegun cuts the connection before the end of a body that could not be completed: the client must not take what it has
// for an archive.
func (s *Server) cutIfBegun(c *call, err error) error {
	if out, ok := c.w.(*onceWriter); err != nil && ok && out.begun {
		s.Log.Warn("archive cut", "method", c.r.Method, "path", c.r.URL.Path, "tenant", c.tenant, "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// commitRules say what becomes of a body of POST /commit: settings that go before those of the container.
func commitRules() ruleTable {
	t := configRules()
	for _, name := range []string{
		"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image", "StopTimeout",
		"NetworkDisabled", "MacAddress",
	} {
		t[name] = rule{kind: harmless, why: "images have no such setting"}
	}
	t["OnBuild"] = rule{kind: mapped}
	delete(t, "name")
	delete(t, "platform")
	for _, name := range []string{"container", "repo", "tag", "comment", "author", "pause", "changes"} {
		t[name] = rule{kind: harmless, why: "the parameter of the URL counts"} // dockerode repeats them
	}
	return t
}

// commitConfig reads the body of POST /commit, which may be empty: nil.
func commitConfig(c *call) (*triton.ImageConfig, error) {
	tree, err := c.optionalTree()
	if err != nil || isZeroJSON(tree) {
		return nil, err
	}
	if err := buildRules(commitRules()).check(tree, ""); err != nil {
		return nil, err
	}
	var config container.Config
	if err := decodeTyped(tree, &config); err != nil {
		return nil, err
	}
	var spec triton.Spec
	if err := mapConfig(&spec, &config); err != nil {
		return nil, err
	}
	out := spec.ImageConfig()
	if len(config.Volumes) > 0 {
		out.Volumes = sortedKeys(config.Volumes)
	}
	out.OnBuild = config.OnBuild
	return &out, nil
}

// commitContainer is POST /commit.
func (s *Server) commitContainer(ctx context.Context, c *call) error {
	ref, err := repoTag(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	config, err := commitConfig(c)
	if err != nil {
		return err
	}
	key, err := s.named(ctx, c, c.query.Get("container"))
	if err != nil {
		return err
	}
	id, err := s.Backend.CommitContainer(ctx, key, triton.CommitRequest{
		Ref: ref, Author: c.query.Get("author"), Message: c.query.Get("comment"), Config: config, Changes: c.query.Values["changes"],
		Pause: c.query.boolOr("pause", true),
	})
	s.imagesChanged()
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, container.CommitResponse{ID: id})
}
