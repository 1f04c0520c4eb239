package probes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// minorBits is MINORBITS of include/linux/kdev_t.h: how the kernel keeps a device's numbers in one.
const minorBits = 20

// BlockDevice finds the number of a whole block device by its name ("sda"); errdefs.ErrNotFound: there is none.
func BlockDevice(name string) (uint64, error) {
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return 0, fmt.Errorf("block device %q: %w", name, errdefs.ErrNotFound)
	}
	b, err := os.ReadFile("/sys/block/" + name + "/dev")
	if err != nil {
		return 0, fmt.Errorf("block device %q: %w: %w", name, errdefs.ErrNotFound, err)
	}
	var major, minor uint64
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("block device %q has the numbers %q: %w", name, b, err)
	}
	return major<<minorBits | minor, nil
}

// deviceName is the opposite; one that is gone has its numbers.
func (a *asked) deviceName(dev uint64) string {
	if name, ok := a.devices[dev]; ok {
		return name
	}
	name := device{uint32(dev >> minorBits), uint32(dev & (1<<minorBits - 1))}.name()
	a.devices[dev] = name
	return name
}
