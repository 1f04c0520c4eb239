package death

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// scan reads a log of one line a line.
func scan(text string) (reports []*OOMReport) {
	var s OOMScanner
	seq := uint64(0)
	for line := range strings.Lines(text) {
		seq++
		if r := s.Add(seq, time.Duration(seq)*time.Microsecond, strings.TrimSuffix(line, "\n")); r != nil {
			reports = append(reports, r)
		}
	}
	return reports
}

func report(t *testing.T, file string) *OOMReport {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := scan(string(b))
	if len(all) != 1 {
		t.Fatalf("%d reports in %s, want 1", len(all), file)
	}
	return all[0]
}

// A report of Linux 6.18 with version 1 of control groups, lines of others between its own.
func TestReportOfTheKernelIsRead(t *testing.T) {
	r := report(t, "testdata/oom-6.18.log")
	if r.Group != "/triton-x/c" || r.Task != "/triton-x/c" || r.OOM.Chosen != 13079 || r.OOM.Asked != "python3" {
		t.Errorf("group %q, task %q, chosen %d, asked by %q", r.Group, r.Task, r.OOM.Chosen, r.OOM.Asked)
	}
	if r.OOM.Usage != 32<<20 || r.OOM.Limit != 32<<20 || r.OOM.Failures != 124 || r.OOM.Stat["total_rss"] != 33378304 || len(r.OOM.Stat) < 20 {
		t.Errorf("%+v", r.OOM)
	}
	r.OOM.Rank()
	want := OOMTask{
		Pid: 13079, UID: 0, Comm: "python3", RSS: 9729 * 4096, Anon: 8128 * 4096, File: 1601 * 4096, PageTables: 131072, Score: 9729*4096 + 131072,
	}
	if len(r.OOM.Tasks) != 2 || r.OOM.Tasks[0] != want || r.OOM.Tasks[1].Comm != "a b] c" || r.OOM.Tasks[1].ScoreAdj != -998 {
		t.Errorf("tasks %+v, want first %+v", r.OOM.Tasks, want)
	}
}

// The table had fewer columns before Linux 6.9, and a machine that is out of memory has no group.
func TestReportOfAnOlderKernelAndAWholeMachine(t *testing.T) {
	r := report(t, "testdata/oom-6.1-machine.log")
	if r.Group != "" || r.Task != "/docker/c" || r.OOM.Chosen != 42 || len(r.OOM.Stat) != 0 || len(r.OOM.Tasks) != 2 {
		t.Fatalf("%+v", r)
	}
	if k := r.OOM.Tasks[1]; k.Pid != 42 || k.RSS != 5000*4096 || k.Swap != 7*4096 || k.Comm != "hog" || k.UID != 1000 || k.ScoreAdj != 500 {
		t.Errorf("task %+v", k)
	}
}

// Whoever gives his process a name does not choose the victim by it.
func TestNamesInReportsAreOnlyNames(t *testing.T) {
	end := "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=x,pid=1,uid=0,pid=77,uid=5"
	all := scan("evil invoked oom-killer: gfp\n" + end + "\n" + end + "\n")
	if len(all) != 1 || all[0].OOM.Chosen != 77 {
		t.Errorf("%d reports, %+v", len(all), all)
	}
}

func TestAPictureIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("x invoked oom-killer: y\nMemory cgroup stats for /a:\n")
	for i := range 2 * maxOOMStat {
		fmt.Fprintf(&b, "k%d 1\n", i)
	}
	b.WriteString("Tasks state (memory values in pages):\n[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n")
	for i := range 2 * MaxOOMTasks {
		fmt.Fprintf(&b, "[%7d]     0 %d 100 %d 0 0 0 p\n", i+1, i+1, 10+i)
	}
	b.WriteString("oom-kill:constraint=X,global_oom,task_memcg=/a,task=p,pid=1,uid=0\n")
	all := scan(b.String())
	if len(all) != 1 {
		t.Fatalf("%d reports", len(all))
	}
	o := all[0].OOM
	o.Rank()
	if len(o.Tasks) != MaxOOMTasks || o.More != MaxOOMTasks || len(o.Stat) != maxOOMStat || o.Tasks[MaxOOMTasks-1].Pid != 1 || o.Tasks[0].Pid != 2*MaxOOMTasks {
		t.Errorf("%d tasks, %d more, %d keys, last %+v", len(o.Tasks), o.More, len(o.Stat), o.Tasks[len(o.Tasks)-1])
	}
}

func FuzzOOMScanner(f *testing.F) {
	for _, file := range []string{"testdata/oom-6.18.log", "testdata/oom-6.1-machine.log"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range scan(text) {
			r.OOM.Rank()
			if len(r.OOM.Tasks) > MaxOOMTasks || len(r.OOM.Stat) > maxOOMStat {
				t.Errorf("%d tasks, %d keys", len(r.OOM.Tasks), len(r.OOM.Stat))
			}
		}
	})
}

// With vm.oom_dump_tasks=0 the kernel lists no tasks: the numbers come right before the end.
func TestReportWithoutTasksIsRead(t *testing.T) {
	all := scan("x invoked oom-killer: gfp\nmemory: usage 1024kB, limit 1024kB, failcnt 7\nMemory cgroup stats for /a:\nanon 5\n" +
		"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=x,pid=77,uid=5\n")
	if len(all) != 1 || all[0].OOM.Chosen != 77 || all[0].OOM.Usage != 1<<20 || all[0].OOM.Stat["anon"] != 5 {
		t.Errorf("%d reports, %+v", len(all), all)
	}
}
