package node

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/death"
)

// TestOOMReportShowsNoOtherContainers: the numbers of processes are used again.
func TestOOMReportShowsNoOtherContainers(t *testing.T) {
	killed := death.OOMTask{Pid: 7, UID: 100000, Comm: "hog"}
	ours := death.OOMTask{Pid: 8, UID: 100001, Comm: "web"}
	o := death.OOM{
		Chosen: 7, Asked: "db", Usage: 1, Limit: 2, Failures: 3, Stat: map[string]uint64{"rss": 4},
		Tasks: []death.OOMTask{killed, ours, {Pid: 9, UID: 200000, Comm: "db"}, {Pid: 10, UID: 100001, Comm: "db"}},
	}
	keepOwn(&o, map[oomProcess]bool{{8, 100001, "web"}: true, {9, 100001, "db"}: true, {10, 100001, "web"}: true})
	want := death.OOM{Chosen: 7, Tasks: []death.OOMTask{killed, ours}}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
}

func TestOOMTaskIsOfAProcessThatWasThere(t *testing.T) {
	n := &Node{cfg: Config{Now: time.Now}}
	task, err := n.oomTask(os.Getpid(), time.Now())
	if err != nil || task.RSS == 0 || task.Comm == "" || task.UID != os.Getuid() {
		t.Errorf("%+v, %v", task, err)
	}
	if task, err := n.oomTask(os.Getpid(), time.Now().Add(-24*time.Hour)); err == nil {
		t.Errorf("the day before there was %+v", task)
	}
}
