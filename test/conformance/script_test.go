package conformance

import (
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tritond/triton/test/engine"
)

// checks counts the checks that held, over all scripts.
var checks atomic.Int64

// commands are those of the scripts, beside testscript's own; see doc.go.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"docker":  check(docker),
	"exits":   check(positive(exits)),
	"out":     check(matches("stdout")),
	"err":     check(matches("stderr")),
	"is":      check(positive(is)),
	"lines":   check(positive(lines)),
	"await":   check(positive(await)),
	"same":    check(same),
	"set":     positive(set),
	"differs": positive(func(*testscript.TestScript, []string) {}),
}

type command = func(ts *testscript.TestScript, neg bool, args []string)

// check counts a command that holds: one that does not ends by a panic.
func check(c command) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		c(ts, neg, args)
		checks.Add(1)
	}
}

// positive refuses the ! that its command would have to ignore.
func positive(c func(ts *testscript.TestScript, args []string)) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command has no negative form")
		}
		c(ts, args)
	}
}

// run runs docker and returns its exit code. What it wrote is there for the next commands.
func run(ts *testscript.TestScript, args []string) int {
	err := ts.Exec("docker", args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("docker: %v", err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func docker(ts *testscript.TestScript, neg bool, args []string) {
	if code := run(ts, args); neg != (code != 0) {
		ts.Fatalf("docker ended with exit code %d", code)
	}
}

func exits(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if code := run(ts, args[1:]); code != want {
		ts.Fatalf("docker ended with exit code %d, want %d", code, want)
	}
}

func matches(stream string) command {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) != 1 {
			ts.Fatalf("want one pattern, got %q", args)
		}
		re, err := regexp.Compile("(?m)" + args[0])
		ts.Check(err)
		if text := ts.ReadFile(stream); re.MatchString(text) == neg {
			ts.Fatalf("a match of %#q in %s: got %v, want %v:\n%s", args[0], stream, neg, !neg, text)
		}
	}
}

func is(ts *testscript.TestScript, args []string) {
	if got, want := strings.TrimSpace(ts.ReadFile("stdout")), strings.Join(args, " "); got != want {
		ts.Fatalf("got %q, want %q", got, want)
	}
}

func lines(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := strings.Count(ts.ReadFile("stdout"), "\n"); got != want {
		ts.Fatalf("got %d lines, want %d:\n%s", got, want, ts.ReadFile("stdout"))
	}
}

// awaitTime is generous: it tells what never happens from a slow machine.
const awaitTime = 30 * time.Second

func await(ts *testscript.TestScript, args []string) {
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	deadline := time.Now().Add(awaitTime)
	for {
		code := run(ts, args[1:])
		if re.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no match of %#q within %v; the last run ended with exit code %d", args[0], awaitTime, code)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("want two variables, got %q", args)
	}
	a, b := ts.Getenv(args[0]), ts.Getenv(args[1])
	if a == "" || b == "" || (a == b) == neg {
		ts.Fatalf("%s is %q, %s is %q", args[0], a, args[1], b)
	}
}

func set(ts *testscript.TestScript, args []string) {
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if value == "" {
		ts.Fatalf("there is no output for %s", args[0])
	}
	ts.Setenv(args[0], value)
}

// condition tells the lines of one engine from those of the other.
func condition(cond string) (bool, error) {
	switch cond {
	case "tritond":
		return all.target.Tritond != nil, nil
	case "docker":
		return all.target.Tritond == nil, nil
	}
	return false, errors.New("unknown condition")
}

// environment gives a script its names. HOME is its own: docker keeps credentials there.
func environment(env *testscript.Env, prefix string) error {
	config := env.WorkDir + "/.docker"
	env.Vars = append(env.Vars, "C="+prefix, "HOME="+env.WorkDir, "DOCKER_HOST="+all.cli.Host, "DOCKER_CONFIG="+config, "DOCKER_CLI_HINTS=false")
	for name, value := range scriptVars() {
		env.Setenv(name, value)
	}
	return engine.AddCompose(all.repo, config)
}
