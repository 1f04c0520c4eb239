package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	hybridTable = `30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
36 30 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory
39 30 0:32 / /mnt/a\040b rw,nosuid shared:16 - cgroup cgroup rw,memory
`
	v2Table = `31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /run/systemd-v1 rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
`
	v1Table = `36 30 0:32 / /mnt/a\040b rw,nosuid - cgroup cgroup rw,memory
`
)

func TestParseMountsTellsTheLayoutsApart(t *testing.T) {
	type result struct {
		Mode   string
		Mounts []string
		Dirs   []string
		Notes  int
	}
	for name, c := range map[string]struct {
		table string
		want  result
	}{
		"hybrid": {hybridTable, result{
			Mode:   "hybrid",
			Mounts: []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"},
			Dirs:   []string{"/sys/fs/cgroup/unified/x", "/sys/fs/cgroup/cpu,cpuacct/x", ""},
		}},
		"v2": {v2Table, result{Mode: "v2", Mounts: []string{"/sys/fs/cgroup"}, Dirs: []string{"/sys/fs/cgroup/x", "/sys/fs/cgroup/x", "/sys/fs/cgroup/x"}}},
		"v1": {v1Table, result{Mode: "v1", Mounts: []string{"/mnt/a b"}, Dirs: []string{"", "", ""}, Notes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			fs, err := parseMounts(strings.NewReader(c.table))
			if err != nil {
				t.Fatal(err)
			}
			got := result{fs.Mode().String(), fs.mounts(), []string{fs.Dir("", "x"), fs.Dir("cpuacct", "/x"), fs.Dir("pids", "../x")}, len(fs.Notes())}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("layout (-want +got):\n%s", d)
			}
		})
	}
}

func TestParseMountsWithoutControlGroupsIsAnError(t *testing.T) {
	if _, err := parseMounts(strings.NewReader("30 24 0:26 / / rw - ext4 /dev/vda rw\n")); err == nil {
		t.Error("no error for a machine without control groups")
	}
}

func TestMissingControllersAreWantedAvailableAndOff(t *testing.T) {
	got := missing("cpuset cpu io memory hugetlb pids rdma misc\n", "cpu pids\n")
	if d := cmp.Diff([]string{"cpuset", "io", "memory"}, got); d != "" {
		t.Errorf("missing (-want +got):\n%s", d)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(hybridTable)
	f.Add(v2Table)
	f.Add("36 30 0:32 / /mnt - cgroup\n- - -")
	f.Fuzz(func(t *testing.T, table string) {
		fs, err := parseMounts(strings.NewReader(table))
		if err == nil && len(fs.mounts()) == 0 {
			t.Error("a layout without mounts")
		}
	})
}
