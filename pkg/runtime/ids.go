package runtime

import (
	"fmt"
	"hash/fnv"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// The host ids given to user namespaces. Each container has 65,536, as images use ids up to nobody (65534); a block of
// 1,024 ranges belongs to an instance, and the 48 blocks that fit between firstID and 2^32 make it unlikely that two
// instances on a machine share one. firstID is far above the ids of people and of /etc/subuid's usual ranges.
const (
	firstID       = 0x10000000
	rangeSize     = 1 << 16
	rangesPerPool = 1024
	blocks        = 48
)

// Range is the block of host ids of an instance's namespace pair number slot (0 to 1023).
func Range(instance string, slot int) (triton.IDRange, error) {
	if slot < 0 || slot >= rangesPerPool {
		return triton.IDRange{}, fmt.Errorf("id range %d: an instance has %d: %w", slot, rangesPerPool, errdefs.ErrResourceExhausted)
	}
	h := fnv.New32a()
	h.Write([]byte(instance)) // never fails
	block := h.Sum32() % blocks
	return triton.IDRange{Base: firstID + block*rangesPerPool*rangeSize + uint32(slot)*rangeSize, Size: rangeSize}, nil
}
