package death

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OOM is the memory of a container as the kernel was about to kill in it for want of some.
type OOM struct {
	Source string    `json:"source"` // OOMKernel or OOMAfter
	At     time.Time `json:"at"`
	// Scope is whose limit was met: OOMContainer, OOMAbove or OOMMachine. Beyond the container's there are no numbers here but
	// those of its own processes.
	Scope string `json:"scope"`

	Usage    uint64 `json:"usage,omitempty"`    // bytes
	Limit    uint64 `json:"limit,omitempty"`    // bytes
	Failures uint64 `json:"failures,omitempty"` // how often the limit was met
	// Stat is the group's memory.stat: bytes, but for the keys that count events.
	Stat map[string]uint64 `json:"stat,omitempty"`

	Asked  string    `json:"asked,omitempty"` // the process that wanted memory
	Chosen int       `json:"chosen"`          // the process that was killed, in the daemon's namespace
	Tasks  []OOMTask `json:"tasks"`           // the largest score first
	// More counts the processes that found no place in Tasks.
	More int `json:"more,omitempty"`
}

// Where an OOM comes from.
const (
	OOMKernel = "kernel log" // what the kernel saw as it chose
	OOMAfter  = "after"      // what was there when the daemon heard of the kill: the log says nothing, or is closed to it
)

// Whose memory was short.
const (
	OOMContainer = "container"
	OOMAbove     = "group above" // several containers share it
	OOMMachine   = "machine"
)

// OOMTask is a process of the container, in bytes.
type OOMTask struct {
	Pid        int    `json:"pid"` // in the daemon's namespace
	UID        int    `json:"uid"` // in the daemon's namespace
	Comm       string `json:"comm"`
	RSS        uint64 `json:"rss"`
	Anon       uint64 `json:"anon,omitempty"` // of RSS, as File and Shmem; 0 before Linux 6.9
	File       uint64 `json:"file,omitempty"`
	Shmem      uint64 `json:"shmem,omitempty"`
	Swap       uint64 `json:"swap,omitempty"`
	PageTables uint64 `json:"pageTables,omitempty"`
	ScoreAdj   int    `json:"oomScoreAdj"`
	// Score is what the kernel compares: RSS, Swap and PageTables, and a thousandth of the limit for each ScoreAdj
	// (oom_badness in mm/oom_kill.c). Processes with -1000 are never chosen.
	Score int64 `json:"score"`
}

const (
	// MaxOOMTasks bounds OOM.Tasks.
	MaxOOMTasks = 256
	// maxOOMRows bounds what is read of a report: the kernel lists the whole machine when that is out of memory.
	maxOOMRows = 1 << 16
	maxOOMStat = 256
	pageSize   = 4096 // of x86-64, in which the kernel's table counts
)

// OOMReport is what the kernel logs of one kill.
type OOMReport struct {
	Seq   uint64        // of its last line
	At    time.Duration // of its last line, on the kernel's clock
	Group string        // the memory control group whose limit was met; "": the machine
	Task  string        // that of the process that was chosen
	OOM   OOM           // without Source, At and Scope; all tasks of Group
}

// OOMScanner finds the reports in the kernel's log. Only one is under way at a time (oom_lock); lines of others between
// its own are passed over.
type OOMScanner struct {
	report  *OOMReport
	columns []string
	inStat  bool
}

var (
	oomBegin = regexp.MustCompile(`^(.{0,64}) invoked oom-killer: `)
	oomUsage = regexp.MustCompile(`^memory: usage (\d+)kB, limit (\d+)kB, failcnt (\d+)$`)
	oomStat  = regexp.MustCompile(`^([a-z][a-z0-9_()]{0,63}) (\d+)$`)
	oomRow   = regexp.MustCompile(`^\[ *(\d+)\] (.*)$`)
	// The name is what its owner chose; that it comes before the numbers is why these are looked for from the end.
	oomEnd = regexp.MustCompile(`^oom-kill:constraint=\w+,.*?(?:global_oom|oom_memcg=([^,]*)),task_memcg=([^,]*),task=.*,pid=(\d+),uid=\d+$`)
)

// Add takes the next line; it returns a report when that was its last.
func (s *OOMScanner) Add(seq uint64, at time.Duration, line string) *OOMReport {
	if m := oomBegin.FindStringSubmatch(line); m != nil {
		*s = OOMScanner{report: &OOMReport{}}
		s.report.OOM.Asked = m[1]
		return nil
	}
	r := s.report
	switch {
	case r == nil:
	case strings.HasPrefix(line, "Memory cgroup stats for "):
		s.inStat = true
	case strings.HasPrefix(line, "Tasks state "):
		s.inStat = false
	case strings.HasPrefix(line, "[  pid  ]"):
		s.columns = strings.Fields(strings.TrimPrefix(line, "[  pid  ]"))
	case strings.HasPrefix(line, "memory: "):
		if m := oomUsage.FindStringSubmatch(line); m != nil {
			r.OOM.Usage, r.OOM.Limit, r.OOM.Failures = number(m[1])<<10, number(m[2])<<10, number(m[3])
		}
	case s.inStat && !oomEnd.MatchString(line):
		if m := oomStat.FindStringSubmatch(line); m != nil && len(r.OOM.Stat) < maxOOMStat {
			if r.OOM.Stat == nil {
				r.OOM.Stat = map[string]uint64{}
			}
			r.OOM.Stat[m[1]] = number(m[2])
		}
	case strings.HasPrefix(line, "["):
		if m := oomRow.FindStringSubmatch(line); m != nil && len(r.OOM.Tasks) < maxOOMRows {
			if t, ok := s.task(int(number(m[1])), m[2]); ok {
				r.OOM.Tasks = append(r.OOM.Tasks, t)
			}
		}
	default:
		if m := oomEnd.FindStringSubmatch(line); m != nil {
			r.Seq, r.At, r.Group, r.Task, r.OOM.Chosen = seq, at, m[1], m[2], int(number(m[3]))
			*s = OOMScanner{}
			return r
		}
	}
	return nil
}

// task reads a row of the kernel's table, whose columns depend on its version; the name is the last.
func (s *OOMScanner) task(pid int, row string) (OOMTask, bool) {
	t := OOMTask{Pid: pid}
	for i, column := range s.columns {
		row = strings.TrimLeft(row, " ")
		if i == len(s.columns)-1 {
			t.Comm = row
			return t, column == "name"
		}
		word, rest, _ := strings.Cut(row, " ")
		row = rest
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return t, false
		}
		pages := uint64(max(0, n)) * pageSize
		switch column {
		case "uid":
			t.UID = int(n)
		case "rss":
			t.RSS = pages
		case "rss_anon":
			t.Anon = pages
		case "rss_file":
			t.File = pages
		case "rss_shmem":
			t.Shmem = pages
		case "swapents":
			t.Swap = pages
		case "pgtables_bytes":
			t.PageTables = uint64(max(0, n))
		case "oom_score_adj":
			t.ScoreAdj = int(n)
		}
	}
	return t, false
}

// Rank sets the scores, puts the largest first, and cuts what is too much; the chosen one stays.
func (o *OOM) Rank() {
	for i := range o.Tasks {
		t := &o.Tasks[i]
		t.Score = int64(t.RSS+t.Swap+t.PageTables) + int64(t.ScoreAdj)*int64(o.Limit/1000)
	}
	slices.SortStableFunc(o.Tasks, func(a, b OOMTask) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Pid, b.Pid))
	})
	if n := len(o.Tasks) - MaxOOMTasks; n > 0 {
		if i := slices.IndexFunc(o.Tasks, func(t OOMTask) bool { return t.Pid == o.Chosen }); i >= MaxOOMTasks {
			o.Tasks[MaxOOMTasks-1] = o.Tasks[i]
		}
		o.Tasks, o.More = o.Tasks[:MaxOOMTasks:MaxOOMTasks], o.More+n
	}
}

// number is 0 for what is none.
func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 54)
	if err != nil {
		return 0
	}
	return n
}
