package image

import (
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parseTags reads docker's RepoTags.
func parseTags(names []string) ([]reference.NamedTagged, error) {
	if len(names) > maxNames {
		return nil, badArchive("more than %d names of one image", maxNames)
	}
	var tags []reference.NamedTagged
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			return nil, badArchive("name %.200q: %v", n, err)
		}
		tagged, ok := named.(reference.NamedTagged)
		if !ok {
			return nil, badArchive("invalid tag %.200q", n)
		}
		tags = addTags(tags, []reference.NamedTagged{tagged})
	}
	return tags, nil
}

// addTags appends the tags that are new.
func addTags(tags, more []reference.NamedTagged) []reference.NamedTagged {
	for _, m := range more {
		known := false
		for _, t := range tags {
			known = known || t.String() == m.String()
		}
		if !known {
			tags = append(tags, m)
		}
	}
	return tags
}

// layoutTags reads the names that buildkit, containerd and docker annotate an index's entries with.
// A reference that is only a tag ("latest"), as other tools write it, names nothing.
func layoutTags(annotations map[string]string) ([]reference.NamedTagged, error) {
	if list := annotations[images.AnnotationImageName]; list != "" {
		return parseTags(strings.Split(list, ","))
	}
	full := annotations[ocispec.AnnotationRefName]
	if !strings.ContainsAny(full, ":/") {
		return nil, nil
	}
	return parseTags([]string{full})
}

// addDockerTags gives images the names that a manifest.json beside the layout has for them.
func (a *archive) addDockerTags(all []bundle) error {
	list, err := a.dockerImages()
	if err != nil {
		return err
	}
	for _, im := range list {
		tags, err := parseTags(im.RepoTags)
		if err != nil {
			return err
		}
		cfg, err := a.find(im.Config)
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].id == cfg.digest {
				all[i].tags = addTags(all[i].tags, tags)
			}
		}
	}
	return nil
}

// parseTarget reads the name that an image is to get; a missing tag is "latest".
func parseTarget(name string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create a tag with a digest reference")
	}
	// The name of an algorithm would make "sha256:abc" mean two things.
	if reference.FamiliarName(named) == "sha256" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create an ambiguous tag using digest algorithm as name")
	}
	return reference.TagNameOnly(named).(reference.NamedTagged), nil
}
