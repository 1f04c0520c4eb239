package conformance

import (
	"bufio"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tritond/triton/test/images"
)

// scriptVars are the variables of all scripts.
func scriptVars() map[string]string {
	return map[string]string{
		"BUSYBOX": images.Busybox, "TRUE": images.True, "PROGRAMS": images.Programs, "REGISTRY": all.registry.Addr, "PRIVATE": all.private.Addr,
		"BUSYBOX_TAR": all.images.Busybox,
	}
}

// leastChecks is what all scripts together must check; it grows with them.
const leastChecks = 2060

// TestDockerCommands runs each script of testdata, and then those of testdata/alone, which touch what is not theirs.
func TestDockerCommands(t *testing.T) {
	t.Run("beside", func(t *testing.T) { runScripts(t, "testdata") })
	t.Run("alone", func(t *testing.T) { runAlone(t, "testdata/alone") })
	if n := checks.Load(); !t.Failed() && wholeRun() {
		t.Logf("%d checks held", n)
		if n < leastChecks {
			t.Errorf("%d checks held, want at least %d", n, leastChecks)
		}
	}
}

// wholeRun reports whether no -run pattern left scripts out.
func wholeRun() bool {
	return !strings.Contains(flag.Lookup("test.run").Value.String(), "/")
}

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, params(dir))
}

func params(dir string) testscript.Params {
	return testscript.Params{Dir: dir, Cmds: commands, Condition: condition, Setup: setup, RequireUniqueNames: true,
		ContinueOnError: true}
}

// runAlone runs scripts one after the other.
func runAlone(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts in %s: %v %v", dir, files, err)
	}
	for _, file := range files {
		p := params("")
		p.Files = []string{file}
		t.Run("script", func(t *testing.T) { testscript.Run(t, p) })
	}
}

func setup(env *testscript.Env) error {
	prefix := "c" + filepath.Base(env.WorkDir)[len("script-"):]
	env.Defer(func() { cleanup(env.T().(testing.TB), prefix) })
	return environment(env, prefix)
}

// cleanup removes what a script made under its prefix.
func cleanup(t testing.TB, prefix string) {
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq", "--filter", "name=" + prefix}, []string{"rm", "-f", "-v"}},
		{[]string{"network", "ls", "-q", "--filter", "name=" + prefix}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q", "--filter", "name=" + prefix}, []string{"volume", "rm", "-f"}},
		{[]string{"images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=" + prefix + "*"}, []string{"rmi", "-f"}},
		{[]string{"volume", "ls", "-q", "--filter", "name=" + prefix}, []string{"volume", "rm", "-f"}},
		{[]string{"images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=*/" + prefix + "*"}, []string{"rmi", "-f"}},
	} {
		if names := strings.Fields(ok(t, kind.list...)); len(names) > 0 {
			ok(t, append(kind.remove, names...)...)
		}
	}
}

// ok runs docker, which must succeed, outside of a script.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	res, err := all.cli.Run(ctx, nil, args...)
	if err != nil || res.Code != 0 {
		t.Errorf("docker %s: exit code %d, %v\n%s", strings.Join(args, " "), res.Code, err, res.Stderr)
	}
	return res.Stdout
}

var (
	conditional = regexp.MustCompile(`^\[!?(tritond|docker)\]`)
	// listed is a row of the document: | `id` | …
	listed = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|")
)

// TestDifferencesAreListed: a line for one engine only is below a differs line, whose row docs/docker-differences.md has;
// and that has no rows that no script shows.
func TestDifferencesAreListed(t *testing.T) {
	beside, _ := filepath.Glob("testdata/*.txt") // the patterns are well formed
	alone, _ := filepath.Glob("testdata/alone/*.txt")
	shown := map[string]bool{}
	for _, file := range append(beside, alone...) {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		below := false
		for sc := bufio.NewScanner(f); sc.Scan(); {
			line := strings.TrimSpace(sc.Text())
			if id, ok := strings.CutPrefix(line, "differs "); ok {
				shown[id], below = true, true
				continue
			}
			only := conditional.MatchString(line)
			if only && !below {
				t.Errorf("%s: %q is below no differs line", file, line)
			}
			below = below && only
		}
		f.Close()
	}
	doc, err := os.ReadFile("../../docs/docker-differences.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range listed.FindAllStringSubmatch(string(doc), -1) {
		rows[m[1]] = true
	}
	if diff := cmp.Diff(rows, shown); diff != "" {
		t.Errorf("differences (-docs/docker-differences.md +scripts):\n%s", diff)
	}
}
