package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tritond/triton/test/images"
)

func TestStopSendsSIGTERMAndWaits(t *testing.T) {
	u := shared(t)
	name := u.counting(t, "10")
	equal(t, "stop prints", u.ok(t, "stop", name), name)
	equal(t, "state", u.inspect(t, name, "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}"), "exited 77 0")
	u.ok(t, "stop", name) // stopping what is stopped is no error
}

func TestStopKillsWhatIgnoresTheSignal(t *testing.T) {
	u := shared(t)
	deaf := u.detached(t, images.Busybox, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
	start := time.Now()
	u.ok(t, "stop", "-t", "1", deaf)
	if took := time.Since(start); took < time.Second || took > 9*time.Second {
		t.Errorf("stop -t 1 took %v", took)
	}
	equal(t, "exit code", u.inspect(t, deaf, "{{.State.ExitCode}}"), "137")
}

func TestStopUsesTheContainersSignalAndTimeout(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--stop-signal", "USR1", "--stop-timeout", "30", images.Busybox, "sh", "-c", "trap 'exit 33' USR1; echo armed; while :; do sleep 0.05; done")
	eventually(t, 10*time.Second, "trap is set", func() bool { return u.docker(t, "logs", name).Stdout == "armed\n" })
	u.ok(t, "stop", name)
	equal(t, "exit code", u.inspect(t, name, "{{.State.ExitCode}}"), "33")
}

func TestKillSendsAnySignal(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "trap 'echo hup' HUP; echo armed; while :; do sleep 0.05; done")
	logged := func(want string) {
		t.Helper()
		eventually(t, 10*time.Second, want, func() bool { return strings.Contains(u.docker(t, "logs", name).Stdout, want) })
	}
	logged("armed")
	u.ok(t, "kill", "-s", "HUP", name)
	logged("hup")
	equal(t, "running", u.inspect(t, name, "{{.State.Running}}"), "true")
	u.ok(t, "kill", "--signal", "9", name)
	equal(t, "exit code", u.ok(t, "wait", name), "137")
	u.fails(t, 1, "(?i)cannot kill container: "+name+": container [0-9a-f]{64} is not running", "kill", name)
	u.fails(t, 1, "(?i)invalid signal", "kill", "-s", "NOSUCH", name)
}

func TestRestartStartsAgainWithTheSameFiles(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "echo run >>/tmp/runs; cat /tmp/runs | wc -l; trap 'exit 0' TERM; while :; do sleep 0.05; done")
	count := func(n string) {
		t.Helper()
		eventually(t, 20*time.Second, "run "+n, func() bool {
			lines := strings.Fields(u.docker(t, "logs", name).Stdout)
			return len(lines) > 0 && lines[len(lines)-1] == n
		})
	}
	count("1")
	before := u.pid(t, name)
	u.ok(t, "restart", name)
	count("2")
	if after := u.pid(t, name); after == before {
		t.Errorf("restart kept pid %d", after)
	}
	u.ok(t, "stop", name)
	u.ok(t, "start", name)
	count("3")
	u.ok(t, "start", name) // starting what runs is no error
	equal(t, "address in one network", u.inspect(t, name, "{{len .NetworkSettings.Networks}}"), "1")
}

func TestRmNeedsForceForARunningContainer(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	u.fails(t, 1, "(?i)(cannot|can't|unable to|stop the container).*", "rm", name)
	equal(t, "still running", u.inspect(t, name, "{{.State.Running}}"), "true")
	equal(t, "rm -f prints", u.ok(t, "rm", "-f", name), name)
	u.fails(t, 1, "(?i)no such container", "rm", name)

	stopped := u.detached(t, images.True)
	u.ok(t, "wait", stopped)
	u.ok(t, "rm", stopped)
	u.fails(t, 1, "(?i)no such", "inspect", stopped)
}

func TestWaitReturnsTheExitCode(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sh", "-c", "sleep 0.5; exit 12")
	equal(t, "while it runs", u.ok(t, "wait", name), "12")
	equal(t, "once more", u.ok(t, "wait", name), "12")
	u.fails(t, 1, "(?i)no such container", "wait", "nosuch")

	created := u.name(t)
	u.ok(t, "create", "--name", created, images.True)
	equal(t, "created", u.ok(t, "wait", created), "0")
}

func TestWaitOfAForceRemovedContainerIs137(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	code := make(chan string, 1)
	go func() {
		var ended struct{ StatusCode int }
		err := u.api.JSON(t.Context(), "POST", "/v1.41/containers/"+name+"/wait?condition=removed", nil, &ended)
		if err != nil {
			code <- err.Error()
			return
		}
		code <- map[bool]string{true: "137"}[ended.StatusCode == 137]
	}()
	u.ok(t, "rm", "-f", name)
	select {
	case got := <-code:
		// An engine that had not seen the wait yet says that there is no such container.
		if !strings.Contains(got, "404") {
			equal(t, "status", got, "137")
		}
	case <-time.After(20 * time.Second):
		t.Error("wait for removed does not end")
	}
}

func TestNamesAndPrefixesFindAContainer(t *testing.T) {
	u := shared(t)
	name := u.detached(t, images.Busybox, "sleep", "1000")
	id := u.inspect(t, name, "{{.Id}}")
	for _, ref := range []string{id, id[:12], id[:10], "/" + name} {
		equal(t, ref, u.inspect(t, ref, "{{.Name}}"), "/"+name)
	}
	u.fails(t, 125, `(?i)conflict.*name "/`+name+`" is already in use by container "?`+id, "run", "--name", name, images.True)
	u.fails(t, 125, "(?i)invalid container name", "run", "--name", "a b", images.True)
	u.fails(t, 125, "(?i)invalid container name", "run", "--name", "x", images.True)
	u.fails(t, 1, "(?i)no such container: nosuch", "start", "nosuch")
}

func TestPsFiltersAndFormats(t *testing.T) {
	u := shared(t)
	label := "group=" + randomHex()
	up := u.detached(t, "--label", label, images.Busybox, "sleep", "1000")
	down := u.detached(t, "--label", label, "--label", "kind=short", images.Busybox, "sh", "-c", "exit 3")
	u.ok(t, "wait", down)
	made := u.name(t)
	u.ok(t, "create", "--name", made, "--label", label, images.True)

	list := func(args ...string) string {
		t.Helper()
		out := u.ok(t, append([]string{"ps", "--filter", "label=" + label, "--format", "{{.Names}}"}, args...)...)
		return strings.Join(strings.Fields(out), " ")
	}
	equal(t, "ps", list(), up)
	equal(t, "ps -a, newest first", list("-a"), made+" "+down+" "+up)
	equal(t, "status=exited", list("--filter", "status=exited"), down)
	equal(t, "status=created", list("--filter", "status=created"), made)
	equal(t, "exited=3", list("-a", "--filter", "exited=3"), down)
	equal(t, "name", list("-a", "--filter", "name="+up), up)
	equal(t, "id", list("-a", "--filter", "id="+u.inspect(t, made, "{{.Id}}")[:20]), made)
	equal(t, "second label", list("-a", "--filter", "label=kind"), down)
	equal(t, "ancestor", list("-a", "--filter", "ancestor="+images.True), made)
	equal(t, "before", list("-a", "--filter", "before="+down), up)
	equal(t, "since", list("-a", "--filter", "since="+down), made)
	equal(t, "-n 1 is the newest", list("-n", "1"), made)
	u.fails(t, 1, "(?i)invalid filter", "ps", "--filter", "bogus=1")

	row := u.ok(t, "ps", "-a", "--no-trunc", "--filter", "name="+down, "--format", "{{.ID}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Status}}|{{.Label \"kind\"}}|{{.Networks}}")
	matches(t, "row", row, `^[0-9a-f]{64}\|busybox:latest\|"sh -c 'exit 3'"\|exited\|Exited \(3\) .* ago\|short\|bridge$`)
	matches(t, "status of a running one", u.ok(t, "ps", "--filter", "name="+up, "--format", "{{.Status}}"), "^Up ")
	if res := u.docker(t, "ps", "-s", "--filter", "name="+up, "--format", "{{.Size}}"); res.Code == 0 {
		matches(t, "size", res.Stdout, `^\d.*B \(virtual .*B\)\s$`)
	} else {
		matches(t, "refusal of size", res.Stderr, "(?i)size")
	}
}

func TestInspectShowsWhatWasAskedFor(t *testing.T) {
	u := shared(t)
	name := u.detached(t, "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--env", "A=b", "--label", "l=v",
		"--hostname", "h", "--restart", "no", "--user", "worker", "-w", "/tmp", "--tmpfs", "/scratch:size=1m", images.Busybox, "sleep", "1000")
	for format, want := range map[string]string{
		"{{.Name}}":                                 "/" + name,
		"{{.Config.Image}}":                         images.Busybox,
		"{{json .Config.Cmd}}":                      `["sleep","1000"]`,
		"{{.Path}} {{json .Args}}":                  `sleep ["1000"]`,
		"{{.Config.Hostname}}":                      "h",
		"{{.Config.User}} {{.Config.WorkingDir}}":   "worker /tmp",
		"{{index .Config.Labels \"l\"}}":            "v",
		"{{.HostConfig.Memory}}":                    "67108864",
		"{{.HostConfig.NanoCpus}}":                  "500000000",
		"{{.HostConfig.PidsLimit}}":                 "50",
		"{{.HostConfig.RestartPolicy.Name}}":        "no",
		"{{.HostConfig.LogConfig.Type}}":            "json-file",
		"{{.HostConfig.ShmSize}}":                   "67108864",
		"{{json .HostConfig.Tmpfs}}":                `{"/scratch":"size=1m"}`,
		"{{.HostConfig.Privileged}}":                "false",
		"{{.State.Status}} {{.State.Running}}":      "running true",
		"{{.State.Paused}} {{.State.OOMKilled}}":    "false false",
		"{{.State.ExitCode}} {{.State.FinishedAt}}": "0 0001-01-01T00:00:00Z",
		"{{.RestartCount}} {{.Platform}}":           "0 linux",
	} {
		equal(t, format, u.inspect(t, name, format), want)
	}
	for format, pattern := range map[string]string{
		"{{.Id}}":                     "^[0-9a-f]{64}$",
		"{{.Image}}":                  "^sha256:[0-9a-f]{64}$",
		"{{.Created}}":                `^\d{4}-\d\d-\d\dT.*Z$`,
		"{{.State.StartedAt}}":        `^\d{4}-\d\d-\d\dT.*Z$`,
		"{{.HostConfig.NetworkMode}}": "^(default|bridge)$", // engines before 26 keep the client's word
		"{{.LogPath}}":                `/[0-9a-f]{64}-json.log$`,
		"{{json .Config.Env}}":        `"A=b"`,
		"{{(index .NetworkSettings.Networks \"bridge\").IPAddress}}":   `^\d+\.\d+\.\d+\.\d+$`,
		"{{(index .NetworkSettings.Networks \"bridge\").Gateway}}":     `^\d+\.\d+\.\d+\.\d+$`,
		"{{(index .NetworkSettings.Networks \"bridge\").MacAddress}}":  `^([0-9a-f]{2}:){5}[0-9a-f]{2}$`,
		"{{(index .NetworkSettings.Networks \"bridge\").IPPrefixLen}}": `^\d+$`,
	} {
		matches(t, format, u.inspect(t, name, format), pattern)
	}
	u.ok(t, "kill", name)
	matches(t, "finished", u.inspect(t, name, "{{.State.FinishedAt}}"), `^20\d\d-`)
}
