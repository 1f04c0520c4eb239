package e2e

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tritond/triton/test/images"
)

// runs counts the lines that a container wrote, one for each run.
func (u *under) runs(t *testing.T, name string) int {
	t.Helper()
	return strings.Count(u.docker(t, "logs", name).Stdout, "\n")
}

func TestOnFailureRestartsAsOftenAsItMay(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--restart", "on-failure:2", images.Busybox, "sh", "-c", "echo run; exit 3")
	// A reader that follows goes on until no restart follows.
	equal(t, "followed log", u.ok(t, "logs", "-f", name), "run\nrun\nrun")
	eventually(t, 10*time.Second, "it has ended", func() bool { return u.inspect(t, name, "{{.State.Status}}") == "exited" })
	equal(t, "state", u.inspect(t, name, "{{.RestartCount}} {{.State.ExitCode}} {{.State.Restarting}} {{.State.Running}}"), "2 3 false false")
	equal(t, "policy", u.inspect(t, name, "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"), "on-failure 2")
	events := u.past(t, 7, "--filter", "container="+name, "--filter", "type=container", "--format", "{{.Action}}")
	if diff := cmp.Diff([]string{"create", "start", "die", "start", "die", "start", "die"}, strings.Fields(events)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	u.ok(t, "start", name) // by hand: the count begins anew
	eventually(t, 20*time.Second, "six runs", func() bool { return u.runs(t, name) == 6 })
}

func TestOnFailureDoesNotRestartSuccess(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--restart", "on-failure", images.True)
	equal(t, "wait", u.ok(t, "wait", name), "0")
	eventually(t, 10*time.Second, "it has ended", func() bool { return u.inspect(t, name, "{{.State.Status}}") == "exited" })
	equal(t, "restarts", u.inspect(t, name, "{{.RestartCount}}"), "0")
}

func TestRestartAndRemoveExcludeEachOther(t *testing.T) {
	u := shared(t)
	body := json.RawMessage(`{"Image":"` + images.True + `","HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`)
	err := u.api.JSON(t.Context(), http.MethodPost, "/v1.41/containers/create", body, nil)
	if err == nil || !strings.Contains(err.Error(), "AutoRemove") {
		t.Errorf("got %v, want a refusal that names AutoRemove", err)
	}
}

// restarting starts a container that ends at once, and waits until its pause is long enough to look at it.
func (u *under) restarting(t *testing.T, flags ...string) string {
	t.Helper()
	name := u.detached(t, append(flags, images.Busybox, "sh", "-c", "exit 4")...)
	eventually(t, 30*time.Second, name+" pauses for seconds", func() bool {
		state := strings.Fields(u.inspect(t, name, "{{.RestartCount}} {{.State.Status}}"))
		n, err := strconv.Atoi(state[0])
		return err == nil && n >= 6 && state[1] == "restarting"
	})
	return name
}

// TestWhatARestartingContainerRefusesAndAllows: 100 ms doubled five times are a pause of 3.2 s.
func TestWhatARestartingContainerRefusesAndAllows(t *testing.T) {
	u := shared(t)
	name := u.restarting(t, "--restart", "always")
	for path, want := range map[string]int{
		"/pause": http.StatusConflict, "/attach?stream=1&stdout=1": http.StatusConflict, "/start": http.StatusNotModified,
	} {
		r, err := u.api.Do(t.Context(), http.MethodPost, "/v1.41/containers/"+name+path, "", nil)
		if err != nil || r.Status != want {
			t.Errorf("POST %s: %d %s %v, want %d", path, r.Status, r.Body, err, want)
		}
	}
	r, err := u.api.Do(t.Context(), http.MethodPost, "/v1.41/containers/"+name+"/exec", "application/json", strings.NewReader(`{"Cmd":["true"]}`))
	if err != nil || r.Status != http.StatusConflict || !strings.Contains(string(r.Body), "restarting") {
		t.Errorf("exec: %d %s %v", r.Status, r.Body, err)
	}
	r, err = u.api.Do(t.Context(), http.MethodDelete, "/v1.41/containers/"+name, "", nil)
	if err != nil || r.Status != http.StatusConflict || !strings.Contains(string(r.Body), "restarting") {
		t.Errorf("rm: %d %s %v", r.Status, r.Body, err)
	}
	matches(t, "ps", u.ok(t, "ps", "--filter", "name="+name, "--format", "{{.Status}}"), `^Restarting \(4\) .* ago$`)
	u.ok(t, "stop", name)
	equal(t, "stopped", u.inspect(t, name, "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}"), "exited false 4")
	u.ok(t, "rm", name)
}

func TestKillAndForcedRemovalEndRestarting(t *testing.T) {
	u := shared(t)
	killed, removed := u.restarting(t, "--restart", "always"), u.restarting(t, "--restart", "unless-stopped")
	waited := make(chan string, 1)
	go func() {
		res, _ := u.cli.Run(t.Context(), nil, "wait", killed)
		waited <- strings.TrimSpace(res.Stdout)
	}()
	u.ok(t, "kill", killed)
	equal(t, "killed", u.inspect(t, killed, "{{.State.Status}}"), "exited")
	u.ok(t, "rm", "-f", removed)
	u.fails(t, 1, "(?i)no such", "inspect", removed)
	select {
	case got := <-waited:
		equal(t, "wait", got, "4")
	case <-time.After(commandTime):
		t.Error("wait did not end")
	}
}

// TestStoppedByHandIsNotRestarted, by neither of the two, whatever signal ends it.
func TestStoppedByHandIsNotRestarted(t *testing.T) {
	u := shared(t)
	for _, policy := range []string{"always", "unless-stopped", "on-failure"} {
		for _, verb := range []string{"stop", "kill"} {
			name := u.detached(t, "--restart", policy, images.Busybox, "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.02; done")
			u.ok(t, verb, name)
			u.ok(t, "wait", name)
			equal(t, policy+" "+verb, u.inspect(t, name, "{{.State.Status}} {{.RestartCount}}"), "exited 0")
		}
	}
	// A signal that is not the stop signal does not end it by hand.
	name := u.detached(t, "--restart", "always", "--stop-signal", "TERM", images.Busybox, "sh", "-c", "trap 'exit 6' USR1; echo armed; while :; do sleep 0.02; done")
	eventually(t, 10*time.Second, "trap is set", func() bool { return u.runs(t, name) == 1 })
	u.ok(t, "kill", "-s", "USR1", name)
	eventually(t, 20*time.Second, "a second run", func() bool { return u.runs(t, name) == 2 })
	u.ok(t, "restart", "-t", "0", name)
	equal(t, "count after a restart by hand", u.inspect(t, name, "{{.RestartCount}}"), "0")
}

// TestPoliciesSurviveTheDaemon: what ends while no daemon lives is treated as if one had, once, and pauses go on.
func TestPoliciesSurviveTheDaemon(t *testing.T) {
	t.Parallel()
	u := own(t)
	held := func(flags ...string) string { return u.held(t, flags, "sh -c 'rm /go; exit 7'") }
	always, unless := held("--restart", "always"), held("--restart", "unless-stopped")
	retried, spent, never := held("--restart", "on-failure:1"), held("--restart", "on-failure"), held()
	ended := []int{}
	for _, name := range []string{always, unless, retried, never} {
		ended = append(ended, u.pid(t, name))
		release(t, ended[len(ended)-1])
		eventually(t, 20*time.Second, name+" ran", func() bool { return name != never || u.inspect(t, name, "{{.State.Status}}") == "exited" })
	}
	stopAlways, stopUnless := held("--restart", "always"), held("--restart", "unless-stopped")
	u.ok(t, "stop", "-t", "0", stopAlways, stopUnless, spent)
	for _, name := range []string{always, unless, retried} {
		eventually(t, 20*time.Second, name+" is restarted", func() bool {
			return u.inspect(t, name, "{{.RestartCount}} {{.State.Status}}") == "1 running"
		})
		pid := u.pid(t, name)
		release(t, pid)
		ended = append(ended, pid)
	}
	pausing := u.restarting(t, "--restart", "always")
	u.kill(t)
	gone(t, ended...)
	u.restart(t)

	for name, want := range map[string]string{
		stopAlways: "0 running", always: "2 running", unless: "2 running",
		stopUnless: "0 exited", retried: "1 exited", spent: "0 exited", never: "0 exited",
	} {
		eventually(t, 20*time.Second, name+" is "+want, func() bool {
			return u.inspect(t, name, "{{.RestartCount}} {{.State.Status}}") == want
		})
	}
	eventually(t, 20*time.Second, "the pausing one goes on", func() bool {
		n, err := strconv.Atoi(u.inspect(t, pausing, "{{.RestartCount}}"))
		return err == nil && n >= 7
	})
	for _, name := range []string{always, unless, retried} {
		want := map[string]string{always: "die start die start", unless: "die start die start", retried: "die start die"}[name]
		events := u.past(t, len(strings.Fields(want))+2, "--filter", "container="+name, "--filter", "type=container", "--format", "{{.Action}}")
		equal(t, "events of "+name, strings.Join(strings.Fields(events), " "), "create start "+want)
	}
}
