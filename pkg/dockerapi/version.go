package dockerapi

import (
	"fmt"
	"strconv"
	"strings"
)

// The API versions served. The upper one is what an unversioned request gets.
const (
	MinAPIVersion = "1.40"
	MaxAPIVersion = "1.51"
)

// apiVersion is the minor number: 1.43 is 43. Docker never raised the major number.
type apiVersion int

const (
	minVersion apiVersion = 40
	maxVersion apiVersion = 51
	// plainTextBelow is the version under which docker answers "too old" as text/plain: such clients print the body as it is.
	plainTextBelow apiVersion = 24
)

func (v apiVersion) String() string { return fmt.Sprintf("1.%d", int(v)) }

// splitVersion takes "/v1.43" off the front of a path. present is false for an unversioned path; raw is what stood there.
func splitVersion(path string) (raw, rest string, present bool) {
	tail, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path, false
	}
	end := strings.IndexByte(tail, '/')
	if end <= 0 || strings.Trim(tail[:end], "0123456789.") != "" {
		return "", path, false
	}
	return tail[:end], tail[end:], true
}

// parseVersion reads "1.43". Versions of another major number are older (0) or newer (2 and up) than all of ours.
func parseVersion(raw string) (apiVersion, error) {
	majorText, minorText, _ := strings.Cut(raw, ".")
	minorText, _, _ = strings.Cut(minorText, ".")
	major, err := strconv.ParseUint(majorText, 10, 16)
	if err != nil {
		return 0, invalid("invalid API version %q", raw)
	}
	minor := uint64(0)
	if minorText != "" {
		if minor, err = strconv.ParseUint(minorText, 10, 16); err != nil {
			return 0, invalid("invalid API version %q", raw)
		}
	}
	switch {
	case major < 1:
		return 0, nil
	case major > 1:
		return maxVersion + 1, nil
	}
	return apiVersion(minor), nil
}

// checkVersion refuses versions outside the served range, with docker's texts.
func checkVersion(raw string, v apiVersion) error {
	if v < minVersion {
		return invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", raw, MinAPIVersion)
	}
	if v > maxVersion {
		return invalid("client version %s is too new. Maximum supported API version is %s", raw, MaxAPIVersion)
	}
	return nil
}
