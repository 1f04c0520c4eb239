package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/test/images"
)

var programID = regexp.MustCompile(`(?m)^prog_id:\s*(\d+)$`)

// programsOf counts the BPF programs that a process holds, by name.
func programsOf(t *testing.T, pid int) map[string]int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, fd := range fds {
		b, err := os.ReadFile(filepath.Join(dir, fd.Name()))
		m := programID.FindSubmatch(b)
		if err != nil || m == nil { // closed meanwhile, or something else
			continue
		}
		id, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			continue
		}
		if info, err := prog.Info(); err == nil {
			names[info.Name]++
		}
		prog.Close()
	}
	return names
}

// leftOf waits until a daemon holds no programs of questions.
func leftOf(t *testing.T, u *under) {
	t.Helper()
	eventually(t, 5*time.Second, "the programs are gone", func() bool {
		for name := range programsOf(t, u.tritond.Pid()) {
			if strings.HasPrefix(name, "ask_") {
				return false
			}
		}
		return true
	})
}

// asked is a question that the client asks.
type asked struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	from  time.Time
}

// ask starts `triton ask -json`; it ends with the test, if not before.
func (u *under) ask(t *testing.T, args ...string) *asked {
	t.Helper()
	cmd := exec.Command(filepath.Join(all.bin, "triton"), append([]string{"-H", u.tritond.Host, "ask", "-json"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{cmd: cmd, lines: bufio.NewReader(out), from: time.Now()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.leave)
	return a
}

func (a *asked) next(t *testing.T) (answer question.Answer) {
	t.Helper()
	line, err := a.lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return answer
}

func (a *asked) leave() {
	a.cmd.Process.Kill()
	a.cmd.Wait()
}

// TestQuestions goes one after the other: a tenant may ask few at a time.
func TestQuestions(t *testing.T) {
	tritonOnly(t)
	u := shared(t)
	t.Run("are answered while somebody looks", func(t *testing.T) { answeredWhileSomebodyLooks(t, u) })
	t.Run("tell peers by their names", func(t *testing.T) { tellPeersByTheirNames(t, u) })
	t.Run("are refused clearly", func(t *testing.T) { refusedClearly(t, u) })
}

// A question is answered within two seconds, exactly, about a container that comes later too, and nothing of it is left when
// nobody looks any more.
func answeredWhileSomebodyLooks(t *testing.T, u *under) {
	var a *asked
	var first question.Answer
	promptly(t, "the first answer", 2*time.Second, func() time.Duration {
		if a != nil {
			a.leave()
		}
		a = u.ask(t, "syscall", "-where", "path=/no/such/* && errno=ENOENT && label:asked=yes", "-by", "container,errno,latency")
		first = a.next(t)
		return time.Since(a.from)
	})
	if len(first.Rows) > 0 || first.Containers > 0 {
		t.Errorf("without such a container the answer is %+v", first)
	}
	if n := programsOf(t, u.tritond.Pid()); n["ask_enter"] == 0 || n["ask_exit"] == 0 {
		t.Errorf("programs are %v", n)
	}
	const each = 400
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do [ -e /no/such/$i ]; i=$((i+1)); done", each)
	name := u.name(t)
	u.ok(t, "run", "--name", name, "--label", "asked=yes", images.Busybox, "sh", "-c", script)
	u.ok(t, "run", "--rm", "--label", "asked=no", images.Busybox, "sh", "-c", script)
	var sum question.Counted
	for deadline := time.Now().Add(30 * time.Second); sum.Count < each && time.Now().Before(deadline); {
		for _, row := range a.next(t).Rows {
			equal(t, "key", row.Key["container"]+" "+row.Key["errno"], name+" ENOENT")
			sum.Add(row.Counted)
		}
	}
	for range 2 {
		for _, row := range a.next(t).Rows {
			sum.Add(row.Counted)
		}
	}
	if sum.Count != each || sum.Timed != each || sum.Latency == nil || sum.Latency.Count() != each {
		t.Errorf("counted %+v, want %d", sum, each)
	}
	a.leave()
	leftOf(t, u)
}

// Whom a container connects to is told by name, if it is a container of the tenant's.
func tellPeersByTheirNames(t *testing.T, u *under) {
	server := u.detached(t, images.Programs, "httpd80")
	address := u.inspect(t, server, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	client := u.name(t)
	a := u.ask(t, "tcp", "-where", "container="+client+" && event=connect && port=80", "-by", "container,remote,port,latency")
	a.next(t)
	u.ok(t, "run", "--name", client, images.Busybox, "sh", "-c", "for i in 1 2 3; do until wget -q -O /dev/null http://"+address+"/; do sleep 0.1; done; done")
	var sum question.Counted
	for deadline := time.Now().Add(30 * time.Second); sum.Count < 3 && time.Now().Before(deadline); {
		for _, row := range a.next(t).Rows {
			equal(t, "key", row.Key["container"]+" "+row.Key["remote"]+" "+row.Key["port"], client+" "+server+" 80")
			sum.Add(row.Counted)
		}
	}
	if sum.Count != 3 || sum.Timed != 3 || sum.Ns == 0 || sum.Latency == nil || sum.Latency.Quantile(1) > 5*time.Second {
		t.Errorf("three connections are %+v", sum)
	}
	a.leave()
	leftOf(t, u)
}

// One question too many is refused with the reason, and a mistake with its place.
func refusedClearly(t *testing.T, u *under) {
	for range 4 {
		u.ask(t, "syscall", "-where", "comm=nobody").next(t)
	}
	host := []string{"-H", u.tritond.Host, "ask", "syscall", "-where"}
	if res := u.client(t, nil, append(host, "comm=nobody")...); res.Code != 1 || !strings.Contains(res.Stderr, "4 questions run") {
		t.Errorf("one too many: %+v", res)
	}
	if res := u.client(t, nil, append(host, "comm=x && errno=ENOENTT")...); res.Code != 1 || !strings.Contains(res.Stderr, "\n  comm=x && errno=ENOENTT\n                  ^\n") {
		t.Errorf("a mistake: %+v", res)
	}
}
