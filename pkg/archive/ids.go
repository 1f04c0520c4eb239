package archive

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// overflowID is the id of what a user namespace does not map (Documentation/admin-guide/sysctl/fs.rst).
const overflowID = 65534

// inner is an id as programs of the container see it.
func (v *View) inner(id uint32) uint32 {
	if v.ids.IsZero() {
		return id
	}
	if id < v.ids.Base || id-v.ids.Base >= v.ids.Size {
		return overflowID
	}
	return id - v.ids.Base
}

// outer is an id as the host sees it.
func (v *View) outer(id int) (int, error) {
	if v.ids.IsZero() {
		if id < 0 || int64(id) > 1<<32-2 {
			return 0, fmt.Errorf("%d is no user or group id", id)
		}
		return id, nil
	}
	if id < 0 || int64(id) >= int64(v.ids.Size) {
		return 0, fmt.Errorf("id %d is not one of the container's user namespace, which has 0 to %d", id, v.ids.Size-1)
	}
	return int(v.ids.Base) + id, nil
}

// becomeRoot gives the calling thread the file system ids of the container's root, and keeps its capabilities. The thread
// must end with what it is used for.
func becomeRoot(ids triton.IDRange) error {
	if ids.IsZero() {
		return nil
	}
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&h, &caps[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, set := range []struct {
		name string
		f    func(int) (int, error)
	}{{"gid", unix.SetfsgidRetGid}, {"uid", unix.SetfsuidRetUid}} {
		if _, err := set.f(int(ids.Base)); err != nil {
			return fmt.Errorf("set file system %s: %w", set.name, err)
		}
		// The call reports no failure: what the id is now tells.
		if now, err := set.f(-1); err != nil || now != int(ids.Base) {
			return fmt.Errorf("set file system %s: it is %d (%w)", set.name, now, err)
		}
	}
	// setfsuid(2) has taken those away that are about files.
	if err := unix.Capset(&h, &caps[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// Layout of the attribute security.capability (include/uapi/linux/capability.h, struct vfs_ns_cap_data): revision 3 is
// revision 2 and the host's id of the root whose namespace the capabilities count in.
const (
	capRevisionMask = 0xff000000
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capSize2        = 20
	capSize3        = 24
)

// withoutRoot makes revision 2 of an attribute, which is what programs of the container see of their own.
func withoutRoot(b []byte) []byte {
	if len(b) != capSize3 || binary.LittleEndian.Uint32(b)&capRevisionMask != capRevision3 {
		return b
	}
	out := append([]byte(nil), b[:capSize2]...)
	binary.LittleEndian.PutUint32(out, binary.LittleEndian.Uint32(b)&^capRevisionMask|capRevision2)
	return out
}

// withRoot makes revision 3 of an attribute of a container's program: without the root's id it would count on the host.
func (v *View) withRoot(b []byte) ([]byte, error) {
	if v.ids.IsZero() {
		return b, nil
	}
	if len(b) != capSize2 || binary.LittleEndian.Uint32(b)&capRevisionMask != capRevision2 {
		return nil, fmt.Errorf("%s is not of revision 2", capabilityXattr)
	}
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out, binary.LittleEndian.Uint32(b)&^capRevisionMask|capRevision3)
	return binary.LittleEndian.AppendUint32(out, v.ids.Base), nil
}
