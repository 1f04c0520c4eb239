package dockerapi

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/tritond/triton/pkg/triton"
)

func mapMounts(spec *triton.Spec, h *container.HostConfig) error {
	var all []triton.Mount
	for _, bind := range h.Binds {
		m, err := parseBind(bind)
		if err != nil {
			return err
		}
		all = append(all, m)
	}
	for i := range h.Mounts {
		m, err := mountOf(&h.Mounts[i])
		if err != nil {
			return invalid("HostConfig.Mounts[%d]: %v", i, err)
		}
		all = append(all, m)
	}
	for _, target := range sortedKeys(h.Tmpfs) {
		m := triton.Mount{Type: triton.MountTmpfs, Target: path.Clean(target)}
		if options := h.Tmpfs[target]; options != "" {
			m.Options = strings.Split(options, ",")
		}
		m.ReadOnly = slices.Contains(m.Options, "ro")
		all = append(all, m)
	}
	seen := map[string]bool{}
	for i := range all {
		m := &all[i]
		if !path.IsAbs(m.Target) {
			return invalid("invalid mount path: '%s' mount path must be absolute", m.Target)
		}
		if m.Target == "/" {
			return invalid("invalid mount config: destination can't be '/'")
		}
		if seen[m.Target] {
			return invalid("Duplicate mount point: %s", m.Target)
		}
		seen[m.Target] = true
	}
	spec.Mounts, spec.VolumesFrom = all, h.VolumesFrom
	return nil
}

// The words of a bind's mode, in the groups of which a bind may use one each.
var (
	accessModes      = []string{"rw", "ro"}
	labelModes       = []string{"z", "Z"} // SELinux: docker ignores them where SELinux is off, and it is for us
	consistencyModes = []string{"consistent", "cached", "delegated", "default"}
	propagationModes = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}
)

// parseBind reads src:dst[:mode,…] with a host path or the name of a volume as src, or dst alone.
func parseBind(bind string) (triton.Mount, error) {
	parts := strings.Split(bind, ":")
	if len(parts) > 3 || parts[0] == "" || len(parts) > 1 && parts[1] == "" {
		return triton.Mount{}, invalid("invalid volume specification: '%s'", bind)
	}
	if len(parts) == 1 {
		return triton.Mount{Type: triton.MountVolume, Target: path.Clean(bind), Bind: bind}, nil
	}
	m := triton.Mount{Type: triton.MountVolume, Source: parts[0], Target: path.Clean(parts[1]), Bind: bind}
	if path.IsAbs(parts[0]) {
		m.Type, m.Source, m.CreateSource = triton.MountBind, path.Clean(parts[0]), true
	}
	if len(parts) < 3 || parts[2] == "" {
		return m, nil
	}
	return m, bindMode(&m, parts[2])
}

// bindMode reads the third part of src:dst:mode.
func bindMode(m *triton.Mount, mode string) error {
	volume := m.Type == triton.MountVolume
	used := map[string]bool{}
	for _, word := range strings.Split(mode, ",") {
		group := ""
		switch {
		case slices.Contains(accessModes, word):
			group, m.ReadOnly = "access", word == "ro"
		case slices.Contains(copyModes, word) && volume:
			group, m.NoCopy = "copy", word == "nocopy"
		case slices.Contains(propagationModes, word) && !volume:
			group, m.Propagation = "propagation", word
		case slices.Contains(labelModes, word):
			group = "label"
		case slices.Contains(consistencyModes, word):
			group = "consistency"
		}
		if group == "" || used[group] {
			return invalid("invalid mode: %s", mode)
		}
		used[group] = true
	}
	return nil
}

func mountOf(in *mount.Mount) (triton.Mount, error) {
	m := triton.Mount{Target: path.Clean(in.Target), ReadOnly: in.ReadOnly}
	if in.Target == "" {
		return m, invalid("field Target must not be empty")
	}
	switch in.Type {
	case mount.TypeBind:
		m.Type = triton.MountBind
		if in.VolumeOptions != nil {
			return m, invalid("VolumeOptions must not be specified on mount type %q", in.Type)
		}
		if in.TmpfsOptions != nil {
			return m, invalid("TmpfsOptions must not be specified on mount type %q", in.Type)
		}
		if !path.IsAbs(in.Source) {
			return m, invalid("invalid mount path: '%s' mount path must be absolute", in.Source)
		}
		m.Source = path.Clean(in.Source)
		if o := in.BindOptions; o != nil {
			if o.Propagation != "" && !slices.Contains(propagationModes, string(o.Propagation)) {
				return m, invalid("invalid propagation mode: %s", o.Propagation)
			}
			if o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive {
				return m, invalid("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
			}
			if (o.ReadOnlyNonRecursive || o.ReadOnlyForceRecursive) && !in.ReadOnly {
				return m, invalid("mount options conflict: !ReadOnly && BindOptions.%s",
					map[bool]string{true: "ReadOnlyNonRecursive", false: "ReadOnlyForceRecursive"}[o.ReadOnlyNonRecursive])
			}
			m.Propagation, m.NonRecursive, m.CreateSource = string(o.Propagation), o.NonRecursive, o.CreateMountpoint
			m.ReadOnlyTop, m.ReadOnlyAll = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
		}
		return m, nil
	case mount.TypeTmpfs:
		m.Type = triton.MountTmpfs
		if in.BindOptions != nil {
			return m, invalid("BindOptions must not be specified on mount type %q", in.Type)
		}
		if in.VolumeOptions != nil {
			return m, invalid("VolumeOptions must not be specified on mount type %q", in.Type)
		}
		if in.Source != "" {
			return m, invalid("field Source must not be specified on mount type %q", in.Type)
		}
		asked, err := json.Marshal(in)
		if err != nil {
			return m, err
		}
		m.Asked = string(asked)
		return m, tmpfsOptions(&m, in.TmpfsOptions)
	case mount.TypeVolume:
		return m, volumeOptions(&m, in)
	case mount.TypeImage:
		return m, imageOptions(&m, in)
	}
	return m, invalid("mount type %q is not supported by this version of triton", in.Type)
}

// imageOptions takes over what a --mount of an image asks for. It is read-only whether that is asked for or not.
func imageOptions(m *triton.Mount, in *mount.Mount) error {
	if in.BindOptions != nil || in.TmpfsOptions != nil || in.VolumeOptions != nil {
		return invalid("options of another type must not be specified on mount type %q", in.Type)
	}
	if in.Source == "" {
		return invalid("field Source must not be empty")
	}
	asked, err := json.Marshal(in)
	if err != nil {
		return err
	}
	m.Type, m.Source, m.ReadOnly, m.Asked = triton.MountImage, in.Source, true, string(asked)
	if in.ImageOptions != nil {
		m.Subpath = in.ImageOptions.Subpath
	}
	return checkSubpath(m.Subpath)
}

func tmpfsOptions(m *triton.Mount, o *mount.TmpfsOptions) error {
	if o == nil {
		return nil
	}
	if o.SizeBytes < 0 {
		return invalid("TmpfsOptions.SizeBytes: %d is not a size", o.SizeBytes)
	}
	if o.SizeBytes > 0 {
		m.Options = append(m.Options, fmt.Sprintf("size=%d", o.SizeBytes))
	}
	if o.Mode != 0 {
		m.Options = append(m.Options, fmt.Sprintf("mode=%o", o.Mode))
	}
	for _, opt := range o.Options {
		if len(opt) != 1 || opt[0] != "exec" && opt[0] != "noexec" {
			return invalid("TmpfsOptions.Options: invalid option: %s", strings.Join(opt, "="))
		}
		m.Options = append(m.Options, opt[0])
	}
	return nil
}
