package dockerapi

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/tritond/triton/pkg/triton"
)

// copyModes are the words of a volume's mode that say whether it gets the image's files.
var copyModes = []string{"copy", "nocopy"}

// mapDeclared takes the paths for which the user asked for volumes without naming them: docker run -v /path.
func mapDeclared(spec *triton.Spec, c *container.Config) error {
	for _, target := range sortedKeys(c.Volumes) {
		switch {
		case strings.Contains(target, ":"):
			return invalid("invalid volume specification: '%s'", target)
		case !path.IsAbs(target):
			return invalid("invalid volume specification: '%s': invalid mount config for type \"volume\": "+
				"invalid mount path: '%s' mount path must be absolute", target, target)
		case path.Clean(target) == "/":
			return invalid("invalid volume specification: '%s': invalid mount config for type \"volume\": invalid specification: destination can't be '/'", target)
		}
		spec.Volumes = append(spec.Volumes, path.Clean(target))
	}
	return nil
}

// volumeOptions takes over what a --mount of a volume asks for.
func volumeOptions(m *triton.Mount, in *mount.Mount) error {
	m.Type, m.Source = triton.MountVolume, in.Source
	if in.BindOptions != nil || in.TmpfsOptions != nil {
		return invalid("field %s must not be specified for type %q", map[bool]string{true: "BindOptions", false: "TmpfsOptions"}[in.BindOptions != nil], in.Type)
	}
	if m.Source == "" && in.ReadOnly {
		return invalid("must not set ReadOnly mode when using anonymous volumes")
	}
	asked, err := json.Marshal(in)
	if err != nil {
		return err
	}
	m.Asked = string(asked)
	o := in.VolumeOptions
	if o == nil {
		return nil
	}
	m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
	if o.Subpath != "" && m.Source == "" {
		return invalid("must not set Subpath when using anonymous volumes")
	}
	if err := checkSubpath(o.Subpath); err != nil {
		return err
	}
	spec := triton.VolumeSpec{Labels: o.Labels}
	if d := o.DriverConfig; d != nil {
		if !localDriver(d.Name) {
			return noSuchDriver(m.Source, d.Name)
		}
		spec.Options = d.Options
	}
	if len(spec.Labels) > 0 || len(spec.Options) > 0 {
		m.Volume = &spec
	}
	return nil
}

// checkSubpath refuses what cannot be within a volume. Links are looked at when it is mounted.
func checkSubpath(subpath string) error {
	if path.IsAbs(subpath) || slices.Contains(strings.Split(subpath, "/"), "..") || strings.ContainsRune(subpath, 0) {
		return invalid("subpath must be a relative path within the volume")
	}
	return nil
}

// mountFinder returns the mounts of another container of the tenant.
type mountFinder func(ref string) ([]triton.Mount, error)

// inheritMounts takes over the mounts of other containers; those of the spec itself win, then those of later containers.
func inheritMounts(spec *triton.Spec, find mountFinder) error {
	own := slices.Clone(spec.Mounts)
	taken := func(list []triton.Mount, target string) bool {
		return slices.ContainsFunc(list, func(m triton.Mount) bool { return m.Target == target })
	}
	for _, from := range spec.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		if ref == "" {
			return invalid("invalid volumes-from specification: '%s'", from)
		}
		readOnly, err := volumesFromMode(mode)
		if err != nil {
			return err
		}
		mounts, err := find(ref)
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if m.Type == triton.MountTmpfs || m.Type == triton.MountImage || taken(own, m.Target) {
				continue
			}
			spec.Mounts = slices.DeleteFunc(spec.Mounts, func(old triton.Mount) bool { return old.Target == m.Target })
			m.Inherited, m.Declared, m.Bind, m.Asked = true, false, "", ""
			m.CreateSource = false // the other container has it already
			m.ReadOnly = m.ReadOnly || readOnly
			spec.Mounts = append(spec.Mounts, m)
		}
	}
	return nil
}

// volumesFromMode reads the mode of a --volumes-from: access and SELinux labels only.
func volumesFromMode(mode string) (readOnly bool, err error) {
	if mode == "" {
		return false, nil
	}
	used := map[string]bool{}
	for _, word := range strings.Split(mode, ",") {
		group := ""
		switch {
		case slices.Contains(accessModes, word):
			group, readOnly = "access", word == "ro"
		case slices.Contains(labelModes, word):
			group = "label"
		}
		if group == "" || used[group] {
			return false, invalid("invalid mode: %s", mode)
		}
		used[group] = true
	}
	return readOnly, nil
}
