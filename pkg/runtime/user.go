package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// maxUserFile bounds /etc/passwd and /etc/group of an image in bytes: they come from strangers.
const maxUserFile = 4 << 20

// lookupUser finds "name|uid[:group|gid]" and further groups in the image's own files. The errors use docker's words.
func lookupUser(root Layers, name string, groupAdd []string, ids triton.IDRange) (specs.User, error) {
	passwd, err := readUserFile(root, "etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := readUserFile(root, "etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, invalid("%v", err)
	}
	more, err := user.GetAdditionalGroups(groupAdd, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, invalid("%v", err)
	}
	slices.Sort(more) // they come in no order
	// The own group is listed as well, so that a process which changes it keeps its "negative" permissions.
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{uint32(found.Gid)}}
	for _, g := range append(found.Sgids, more...) {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, inRange(u, ids)
}

// inRange refuses ids that the container's user namespace does not map: the kernel would say only EINVAL.
func inRange(u specs.User, ids triton.IDRange) error {
	if ids.IsZero() {
		return nil
	}
	for _, id := range append([]uint32{u.UID}, u.AdditionalGids...) {
		if id >= ids.Size {
			return invalid("user or group id %d: the container's user namespace has ids 0 to %d; run it with --userns=host", id, ids.Size-1)
		}
	}
	return nil
}

// readUserFile returns an empty file where the image has none.
func readUserFile(root Layers, path string) ([]byte, error) {
	f, err := root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the image: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxUserFile+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s of the image: %w", path, err)
	}
	if len(b) > maxUserFile {
		return nil, invalid("/%s of the image is longer than %d bytes", path, maxUserFile)
	}
	return b, nil
}

// LookupUser finds the ids of "name|uid[:group|gid]" in the files of a container.
func LookupUser(root Layers, name string, ids triton.IDRange) (uid, gid uint32, err error) {
	u, err := lookupUser(root, name, nil, ids)
	return u.UID, u.GID, err
}
