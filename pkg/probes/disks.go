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
	names := map[device]string{}
	err := p.kernel.eachDisk(func(key *bpf.MeasureDiskKey, t *bpf.MeasureDiskTotals) {
		w := p.table.owning(key.Owner)
		if w == nil || p.table.byKey[w.Key] != w {
			return
		}
		d := device{key.Major, key.Minor}
		p.kernel.seen.Store(d, true)
		if names[d] == "" {
			names[d] = d.name()
		}
		out[w.Key] = append(out[w.Key], diskOf(names[d], key, t))
	})
	for _, disks := range out {
		sortDisks(disks)
	}
	return out, err
}

// DisksOf is Disks of one container, without a look at the others; none of one that is not watched. A device that the machine has no
// more is told of if Disks saw it.
func (p *Probes) DisksOf(key triton.ContainerKey) ([]triton.Disk, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	w := p.table.byKey[key]
	if p.closed || w == nil {
		return nil, nil
	}
	devices, err := p.kernel.devices()
	if err != nil {
		return nil, err
	}
	var out []triton.Disk
	for d := range devices {
		for write := range uint32(2) {
			k := bpf.MeasureDiskKey{Owner: w.owner(), Major: d.major, Minor: d.minor, Write: write}
			var t bpf.MeasureDiskTotals
			err := p.kernel.maps[bpf.MeasureMapDisks].Lookup(&k, &t)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read a disk of %s: %w", key, err)
			}
			out = append(out, diskOf(d.name(), &k, &t))
		}
	}
	sortDisks(out)
	return out, nil
}

func diskOf(name string, key *bpf.MeasureDiskKey, t *bpf.MeasureDiskTotals) triton.Disk {
	return triton.Disk{
		Major: key.Major, Minor: key.Minor, Name: name, Write: key.Write != 0,
		Durations: durations(t.Durations[:], &t.SumNs), Untimed: t.Untimed, Bytes: t.Bytes,
	}
}

func sortDisks(disks []triton.Disk) {
	slices.SortFunc(disks, func(a, b triton.Disk) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), boolOrder(a.Write, b.Write))
	})
}

// device is the number of a block device.
type device struct{ major, minor uint32 }

// devices are those that the machine has, and those that were seen among the disks: so many as these have room for, at most.
func (k *measurePrograms) devices() (map[device]bool, error) {
	entries, err := os.ReadDir("/sys/dev/block")
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	all := map[device]bool{}
	for _, e := range entries {
		var d device
		if _, err := fmt.Sscanf(e.Name(), "%d:%d", &d.major, &d.minor); err == nil {
			all[d] = true
		}
	}
	k.seen.Range(func(d, _ any) bool {
		all[d.(device)] = true
		return true
	})
	return all, nil
}

// name finds a device's name in sysfs, which writes the slash of a name as an exclamation mark.
func (d device) name() string {
	number := fmt.Sprintf("%d:%d", d.major, d.minor)
	target, err := os.Readlink("/sys/dev/block/" + number)
	if err != nil {
		return number
	}
	return strings.ReplaceAll(filepath.Base(target), "!", "/")
}

func (k *measurePrograms) eachDisk(do func(*bpf.MeasureDiskKey, *bpf.MeasureDiskTotals)) error {
	if err := each(k.maps[bpf.MeasureMapDisks], do); err != nil {
		return fmt.Errorf("read disks: %w", err)
	}
	return nil
}

// forgetDisks removes the disks of containers that are gone, and devices that only they used. What a container that is there did
// with a device is kept though the machine has that no more: it may come back, and a counter does not go back. The caller
// holds mu.
func (p *Probes) forgetDisks() error {
	var gone []bpf.MeasureDiskKey
	used := map[device]bool{}
	err := p.kernel.eachDisk(func(key *bpf.MeasureDiskKey, _ *bpf.MeasureDiskTotals) {
		if p.table.owning(key.Owner) == nil {
			gone = append(gone, *key)
			return
		}
		used[device{key.Major, key.Minor}] = true
	})
	if err != nil {
		return err
	}
	for _, key := range gone {
		if err := p.kernel.maps[bpf.MeasureMapDisks].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a disk: %w", err)
		}
	}
	p.kernel.seen.Clear()
	for d := range used {
		p.kernel.seen.Store(d, true)
	}
	return nil
}
