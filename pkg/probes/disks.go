package probes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/bpf"
	"github.com/tritond/triton/pkg/triton"
)

// disksPerContainer bounds the devices, each in two directions, that are told apart: so many a container on average, 1.2 KiB
// each, taken with the first request.
const disksPerContainer = 8

// Disks tells what block devices did for each watched container, in order of name, reads first. Containers without requests
// are absent.
func (p *Probes) Disks() (map[triton.ContainerKey][]triton.Disk, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return nil, nil
	}
	out := map[triton.ContainerKey][]triton.Disk{}
	names := map[[2]uint32]string{}
	err := p.kernel.eachDisk(func(key bpf.MeasureDiskKey, t *bpf.MeasureDiskTotals) {
		w := p.table.owning(key.Owner)
		if w == nil || p.table.byKey[w.Key] != w {
			return
		}
		device := [2]uint32{key.Major, key.Minor}
		if names[device] == "" {
			names[device] = diskName(key.Major, key.Minor)
		}
		out[w.Key] = append(out[w.Key], triton.Disk{
			Major: key.Major, Minor: key.Minor, Name: names[device], Write: key.Write != 0,
			Durations: durations(t.Durations[:], &t.SumNs), Untimed: t.Untimed, Bytes: t.Bytes,
		})
	})
	for _, disks := range out {
		slices.SortFunc(disks, func(a, b triton.Disk) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), boolOrder(a.Write, b.Write))
		})
	}
	return out, err
}

// diskName finds a device's name in sysfs, which writes the slash of a name as an exclamation mark.
func diskName(major, minor uint32) string {
	number := fmt.Sprintf("%d:%d", major, minor)
	target, err := os.Readlink("/sys/dev/block/" + number)
	if err != nil {
		return number
	}
	return strings.ReplaceAll(filepath.Base(target), "!", "/")
}

func (k *measurePrograms) eachDisk(do func(bpf.MeasureDiskKey, *bpf.MeasureDiskTotals)) error {
	var key bpf.MeasureDiskKey
	var t bpf.MeasureDiskTotals
	entries := k.maps[bpf.MeasureMapDisks].Iterate()
	for entries.Next(&key, &t) {
		do(key, &t)
	}
	if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) { // aborted: entries went meanwhile
		return fmt.Errorf("read disks: %w", err)
	}
	return nil
}

// forgetDisks removes the disks of containers that are gone. The caller holds mu.
func (p *Probes) forgetDisks() error {
	var gone []bpf.MeasureDiskKey
	err := p.kernel.eachDisk(func(key bpf.MeasureDiskKey, _ *bpf.MeasureDiskTotals) {
		if p.table.owning(key.Owner) == nil {
			gone = append(gone, key)
		}
	})
	if err != nil {
		return err
	}
	for _, key := range gone {
		if err := p.kernel.maps[bpf.MeasureMapDisks].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a disk: %w", err)
		}
	}
	return nil
}
