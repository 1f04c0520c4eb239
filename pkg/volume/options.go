package volume

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// validName is docker's rule for names of volumes.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// maxName is the kernel's limit of a file name (include/uapi/linux/limits.h, NAME_MAX).
const maxName = 255

// invalid is an error about a request, complete as it stands.
func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// CheckName refuses names that docker refuses, with its words.
func CheckName(name string) error {
	if len(name) < 2 {
		return invalid("volume name is too short, names should be at least two alphanumeric characters")
	}
	if !validName.MatchString(name) {
		return invalid(`%q includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. `+
			"If you intended to pass a host directory, use absolute path", name)
	}
	if len(name) > maxName {
		return invalid("volume name has %d characters, %d are allowed", len(name), maxName)
	}
	return nil
}

// CheckOptions refuses options that docker's local driver refuses. What they mean, the kernel judges when the volume is
// used.
func CheckOptions(opts map[string]string) error {
	names := slices.Sorted(maps.Keys(opts))
	for _, name := range names {
		switch name {
		case "type", "o", "device":
		case "size":
			return invalid("quota size requested but no quota support")
		default:
			return invalid("invalid option: %q", name)
		}
		if strings.ContainsRune(opts[name], 0) {
			return invalid("option %q has a zero byte", name)
		}
	}
	needed := map[string][]string{"device": {"type"}, "type": {"device"}, "o": {"device", "type"}}
	for _, name := range names {
		for _, other := range needed[name] {
			if _, ok := opts[other]; !ok {
				return invalid("missing required option: %q", other)
			}
		}
	}
	return nil
}

// resolveAddr replaces a host name in addr= by an address, as network file systems want it.
func resolveAddr(fstype, options string) (string, error) {
	if fstype != "nfs" && fstype != "nfs4" && fstype != "cifs" {
		return options, nil
	}
	words := strings.Split(options, ",")
	for i, w := range words {
		host, ok := strings.CutPrefix(w, "addr=")
		if !ok || net.ParseIP(host) != nil {
			continue
		}
		addr, err := net.ResolveIPAddr("ip", host)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		words[i] = "addr=" + addr.String()
	}
	return strings.Join(words, ","), nil
}
