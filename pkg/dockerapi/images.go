package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// imageInspect hides image.InspectResponse's Config, whose empty fields today's types leave out and clients up to
// API 1.51 read.
type imageInspect struct {
	image.InspectResponse
	VirtualSize int64 `json:",omitempty"` // below 1.44
	Config      map[string]any
}

func (s *Server) inspectImage(ctx context.Context, c *call) error {
	img, err := s.Backend.InspectImage(ctx, c.tenant, c.vars["name"])
	if err != nil {
		return err
	}
	const platformSince = 49
	if text := c.query.Get("platform"); text != "" && c.version >= platformSince {
		want, err := platformJSON(text)
		if err != nil {
			return err
		}
		if err := checkPlatform(want, c.vars["name"], &img); err != nil {
			return err
		}
	}
	resp := imageInspect{
		InspectResponse: image.InspectResponse{
			ID: img.ID, RepoTags: nonNil(img.RepoTags), RepoDigests: nonNil(img.RepoDigests),
			Comment: img.Comment, Created: timeText(img.Created.UTC()), Author: img.Author,
			Architecture: img.Architecture, Variant: img.Variant, Os: img.OS, Size: img.Size,
			GraphDriver: &storage.DriverData{Name: s.StorageDriver},
			RootFS:      image.RootFS{Type: "layers", Layers: img.DiffIDs},
		},
		Config: imageConfig(&img.Config, c.version),
	}
	if c.version < 44 {
		resp.VirtualSize = img.Size
	}
	return c.json(http.StatusOK, resp)
}

// platformJSON turns the JSON of an OCI platform, as this endpoint takes it, into os/arch/variant.
func platformJSON(text string) (string, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", invalid("failed to parse platform: %v", err)
	}
	if p.OS == "" || p.Architecture == "" {
		return "", invalid("both OS and Architecture must be provided")
	}
	return platforms.Format(p), nil
}

func imageConfig(c *triton.ImageConfig, version apiVersion) map[string]any {
	typed := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir,
		Labels: c.Labels, StopSignal: c.StopSignal, ExposedPorts: setOf(c.ExposedPorts), Volumes: setOf(c.Volumes),
	}}
	typed.Shell, typed.OnBuild = c.Shell, c.OnBuild
	typed.Healthcheck = healthConfigOf(c.Healthcheck)
	out := map[string]any{
		"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": "",
	}
	if version < 50 {
		for _, name := range []string{"AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"} {
			out[name] = false
		}
		out["Domainname"], out["Hostname"], out["Image"] = "", "", ""
	}
	raw, err := json.Marshal(typed)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("image config is not JSON: %v", err)) // strings only: a bug
	}
	return out
}

func setOf(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	set := make(map[string]struct{}, len(list))
	for _, v := range list {
		set[v] = struct{}{}
	}
	return set
}

func (s *Server) tagImage(ctx context.Context, c *call) error {
	target, err := repoTag(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	if target == "" {
		return invalid("repository name must have at least one component")
	}
	if err := s.Backend.TagImage(ctx, c.tenant, c.vars["name"], target); err != nil {
		return err
	}
	s.imagesChanged()
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// repoTag joins repository and tag (latest when empty) to a familiar name. An empty repository gives "".
func repoTag(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", invalid("%v", err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", invalid("refusing to create a tag with a digest reference")
	}
	if tag != "" {
		if ref, err = reference.WithTag(reference.TrimNamed(ref), tag); err != nil {
			return "", invalid("%v", err)
		}
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}

func (s *Server) removeImage(ctx context.Context, c *call) error {
	if len(c.query.Values["platforms"]) > 0 {
		return invalid("platforms: removing single platforms is not supported by this version of triton")
	}
	removed, err := s.Backend.RemoveImage(ctx, c.tenant, c.vars["name"], c.query.bool("force"))
	s.imagesChanged()
	if err != nil {
		return err
	}
	list := make([]image.DeleteResponse, len(removed))
	for i, r := range removed {
		list[i] = image.DeleteResponse{Untagged: r.Untagged, Deleted: r.Deleted}
	}
	return c.json(http.StatusOK, list)
}

// loadImages answers as docker does: 200, and what went wrong as a JSON line.
func (s *Server) loadImages(ctx context.Context, c *call) error {
	if len(c.query.Values["platform"]) > 0 {
		return invalid("platform: loading single platforms is not supported by this version of triton: what fits this machine is loaded")
	}
	out := &progressStream{c: c}
	defer out.close()
	emit := out.emit
	if c.query.bool("quiet") {
		emit = nil
	}
	lines, err := s.Backend.LoadImages(ctx, c.tenant, c.r.Body, emit)
	s.imagesChanged()
	for _, line := range lines {
		if err := out.write(progressLine{Stream: line + "\n"}); err != nil {
			return err
		}
	}
	if err != nil {
		s.Log.Info("image load failed", "tenant", c.tenant, "err", err)
		return out.write(streamError(err))
	}
	return nil
}

// failedMessage is docker's last line of a stream that failed. error is the older field, and read by most clients.
type failedMessage struct {
	Detail *jsonstream.Error `json:"errorDetail"`
	Error  string            `json:"error"`
}

func streamError(err error) failedMessage {
	return failedMessage{Detail: &jsonstream.Error{Message: messageOf(err)}, Error: messageOf(err)}
}

// makeImage is POST /images/create: a pull, or an import from the body.
func (s *Server) makeImage(ctx context.Context, c *call) error {
	if c.query.Get("fromImage") != "" {
		return s.pullImage(ctx, c)
	}
	source := c.query.Get("fromSrc")
	if source != "-" {
		return notBuilt("POST /images/create?fromSrc=%s: only an import from the request body (-) is supported by this version of triton", source)
	}
	target, err := repoTag(c.query.Get("repo"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	id, err := s.Backend.ImportImage(ctx, c.tenant, c.r.Body, triton.ImportRequest{
		Ref: target, Message: or(c.query.Get("message"), "Imported from "+source),
		Changes: c.query.Values["changes"], Platform: c.query.Get("platform"),
	})
	s.imagesChanged()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, jsonstream.Message{Status: id})
}

func (s *Server) listImages(ctx context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "before", "dangling", "label", "label!", "reference", "since", "until")
	if err != nil {
		return err
	}
	const legacyFilterBelow = 41
	if pattern := c.query.Get("filter"); pattern != "" && c.version < legacyFilterBelow {
		f["reference"] = map[string]bool{pattern: true}
	}
	pick, err := s.imageFilter(ctx, c, f)
	if err != nil {
		return err
	}
	all, err := s.Backend.ListImages(ctx, c.tenant)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b triton.Image) int { return b.Created.Compare(a.Created) })
	users, err := s.imageUsers(ctx, c)
	if err != nil {
		return err
	}
	list := []imageSummary{}
	for i := range all {
		if img, ok := pick.apply(all[i]); ok {
			list = append(list, imageSummaryOf(&img, c.version, users))
		}
	}
	return c.json(http.StatusOK, list)
}

type imageSummary struct {
	image.Summary
	VirtualSize int64 `json:",omitempty"` // below 1.44
}

func imageSummaryOf(img *triton.Image, version apiVersion, users map[string]int64) imageSummary {
	sum := imageSummary{Summary: image.Summary{
		ID: img.ID, ParentID: img.Parent, RepoTags: nonNil(img.RepoTags), RepoDigests: nonNil(img.RepoDigests),
		Created: img.Created.Unix(), Size: img.Size, SharedSize: -1, Labels: img.Labels, Containers: -1,
	}}
	if users != nil {
		sum.Containers = users[img.ID]
	}
	if version < 44 {
		sum.VirtualSize = img.Size
	}
	if version < 43 && len(img.RepoTags) == 0 && len(img.RepoDigests) == 0 {
		sum.RepoTags, sum.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	return sum
}

// imageUsers counts containers by image id, for clients that read it; nil for the others.
func (s *Server) imageUsers(ctx context.Context, c *call) (map[string]int64, error) {
	const containersSince = 51
	if c.version < containersSince {
		return nil, nil
	}
	all, err := s.Backend.ListContainers(ctx, c.tenant)
	if err != nil {
		return nil, err
	}
	return usersOf(all), nil
}

// usersOf counts containers by image id.
func usersOf(ctrs []triton.Container) map[string]int64 {
	users := map[string]int64{}
	for i := range ctrs {
		users[ctrs[i].Spec.ImageID]++
	}
	return users
}

// imageFilter selects what docker images shows.
type imageFilter struct {
	filters
	dangling      bool
	byDangling    bool
	before, since time.Time // exclusive; zero: not filtered
}

func (s *Server) imageFilter(ctx context.Context, c *call, f filters) (*imageFilter, error) {
	p := &imageFilter{filters: f}
	var err error
	if p.dangling, p.byDangling, err = f.flag("dangling"); err != nil {
		return nil, err
	}
	for value := range f["until"] {
		t, err := untilTime(value, s.Now())
		if err != nil {
			return nil, err
		}
		p.narrow(t)
	}
	for _, name := range sortedKeys(f["before"]) {
		img, err := s.Backend.InspectImage(ctx, c.tenant, name)
		if err != nil {
			return nil, err
		}
		p.narrow(img.Created)
	}
	for _, name := range sortedKeys(f["since"]) {
		img, err := s.Backend.InspectImage(ctx, c.tenant, name)
		if err != nil {
			return nil, err
		}
		if img.Created.After(p.since) {
			p.since = img.Created
		}
	}
	return p, nil
}

func (p *imageFilter) narrow(before time.Time) {
	if p.before.IsZero() || before.Before(p.before) {
		p.before = before
	}
}

// apply returns the image, with the names that the reference filter leaves, or false.
func (p *imageFilter) apply(img triton.Image) (triton.Image, bool) {
	if !p.before.IsZero() && !img.Created.Before(p.before) || !p.since.IsZero() && !img.Created.After(p.since) {
		return img, false
	}
	if p.byDangling && p.dangling != (len(img.RepoTags) == 0) || !p.labels("label", img.Labels) || p.anyLabel("label!", img.Labels) {
		return img, false
	}
	if len(p.filters["reference"]) > 0 {
		img.RepoTags, img.RepoDigests = p.matching(img.RepoTags), p.matching(img.RepoDigests)
		if len(img.RepoTags)+len(img.RepoDigests) == 0 {
			return img, false
		}
	}
	return img, true
}

// matching keeps the names that one of the patterns matches: shell patterns, over name or name with tag.
func (p *imageFilter) matching(names []string) []string {
	var kept []string
	for _, name := range names {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		for pattern := range p.filters["reference"] {
			if ok, err := reference.FamiliarMatch(pattern, ref); err == nil && ok {
				kept = append(kept, name)
				break
			}
		}
	}
	return kept
}
