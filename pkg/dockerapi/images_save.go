package dockerapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/image"

	"github.com/tritond/triton/pkg/triton"
)

// saveImages is GET /images/get?names= and GET /images/NAME/get.
func (s *Server) saveImages(ctx context.Context, c *call) error {
	var refs []string
	if name := c.vars["name"]; name != "" {
		refs = []string{name}
	} else {
		for _, names := range c.query.Values["names"] {
			for name := range strings.SplitSeq(names, ",") {
				if name = strings.TrimSpace(name); name != "" {
					refs = append(refs, name)
				}
			}
		}
	}
	if len(refs) == 0 {
		return invalid("no image names: names is empty")
	}
	platform, err := c.onePlatform()
	if err != nil {
		return err
	}
	err = s.Backend.SaveImages(ctx, c.tenant, refs, platform, func() error { return c.flushHeader("application/x-tar") }, c.w)
	return s.cutIfBegun(c, err)
}

// onePlatform reads the platform parameter of save and load, JSON, repeatable since 1.52: an image here has only one.
func (c *call) onePlatform() (string, error) {
	switch all := c.query.Values["platform"]; len(all) {
	case 0:
		return "", nil
	case 1:
		return platformJSON(all[0])
	}
	return "", invalid("platform: several platforms are not supported by this version of triton: an image has one")
}

// imageHistory is GET /images/NAME/history.
func (s *Server) imageHistory(ctx context.Context, c *call) error {
	if text := c.query.Get("platform"); text != "" {
		want, err := platformJSON(text)
		if err != nil {
			return err
		}
		img, err := s.Backend.InspectImage(ctx, c.tenant, c.vars["name"])
		if err != nil {
			return err
		}
		if err := checkPlatform(want, c.vars["name"], &img); err != nil {
			return err
		}
	}
	steps, err := s.Backend.ImageHistory(ctx, c.tenant, c.vars["name"])
	if err != nil {
		return err
	}
	list := make([]image.HistoryResponseItem, len(steps))
	for i, st := range steps {
		list[i] = image.HistoryResponseItem{
			ID: or(st.ID, "<missing>"), Created: st.Created.Unix(), CreatedBy: st.CreatedBy, Tags: st.Tags, Size: st.Size, Comment: st.Comment,
		}
	}
	return c.json(http.StatusOK, list)
}

// pruneImages is POST /images/prune.
func (s *Server) pruneImages(ctx context.Context, c *call) error {
	f, err := parseFilters(c.query.Get("filters"), "dangling", "label", "label!", "until")
	if err != nil {
		return err
	}
	dangling, set, err := f.flag("dangling")
	if err != nil {
		return err
	}
	pick := &imageFilter{filters: f}
	for value := range f["until"] {
		t, err := untilTime(value, s.Now())
		if err != nil {
			return err
		}
		pick.narrow(t)
	}
	gone, freed, err := s.Backend.PruneImages(ctx, c.tenant, set && !dangling, func(img *triton.Image) bool {
		if _, ok := pick.apply(*img); !ok {
			return false
		}
		for want := range f["label!"] {
			if (filters{"label": {want: true}}).labels("label", img.Labels) {
				return false
			}
		}
		return true
	})
	s.imagesChanged()
	if err != nil {
		return err
	}
	report := image.PruneReport{SpaceReclaimed: uint64(max(freed, 0))} //nolint:gosec // not negative
	for _, g := range gone {
		report.ImagesDeleted = append(report.ImagesDeleted, image.DeleteResponse{Untagged: g.Untagged, Deleted: g.Deleted})
	}
	return c.json(http.StatusOK, report)
}

// searchImages answers for GET /images/search.
func (s *Server) searchImages(context.Context, *call) error {
	return notBuilt("GET /images/search: searching Docker Hub is not supported by this version of triton: search on https://hub.docker.com")
}
