package dockerapi

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/tritond/triton/pkg/triton"
)

// imageNames maps familiar names (busybox:latest, busybox@sha256:…) to image ids: docker ps shows an image by the name
// it was started with only as long as that name means the same image.
type imageNames map[string]string

// shown is what docker ps prints in the IMAGE column. familiar is the image's name as familiarTag gives it.
func (n imageNames) shown(c *triton.Container, familiar string) string {
	name, id := c.Spec.Image, c.Spec.ImageID
	if name == id || strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), strings.TrimPrefix(name, "sha256:")) {
		return name
	}
	if n[familiar] == id {
		return name
	}
	return id
}

func familiarTag(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(reference.TagNameOnly(ref))
}

// nameCache keeps the names of each tenant until an image changes through this API, and for nameCacheFor at most:
// another API server may change them.
type nameCache struct {
	mu  sync.Mutex
	gen uint64 // grows with each change
	of  map[triton.Tenant]cachedNames
}

type cachedNames struct {
	gen   uint64
	at    time.Time
	names imageNames
}

const nameCacheFor = 5 * time.Second

// imagesChanged must follow every change to the names of images.
func (s *Server) imagesChanged() {
	s.names.mu.Lock()
	s.names.gen++
	s.names.mu.Unlock()
}

func (s *Server) imageNames(ctx context.Context, tenant triton.Tenant) (imageNames, error) {
	now := s.Now()
	s.names.mu.Lock()
	have, gen := s.names.of[tenant], s.names.gen
	s.names.mu.Unlock()
	if have.names != nil && have.gen == gen && now.Sub(have.at) < nameCacheFor {
		return have.names, nil
	}
	all, err := s.Backend.ListImages(ctx, tenant)
	if err != nil {
		return nil, err
	}
	names := imageNames{}
	for i := range all {
		for _, list := range [][]string{all[i].RepoTags, all[i].RepoDigests} {
			for _, name := range list {
				names[familiarTag(name)] = all[i].ID
			}
		}
	}
	s.names.mu.Lock()
	defer s.names.mu.Unlock()
	if s.names.of == nil {
		s.names.of = make(map[triton.Tenant]cachedNames)
	}
	s.names.of[tenant] = cachedNames{gen, now, names}
	return names, nil
}
