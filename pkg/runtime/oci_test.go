package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/triton"
)

// update rewrites the answers in testdata/oci: review the diff.
var update = flag.Bool("update", false, "rewrite the golden files")

// testLimits is a machine with the default capabilities and a few more, small limits, and no file system at /unmappable.
func testLimits() Limits {
	return Limits{
		Capabilities: append([]string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}, defaultCapabilities...),
		Rlimits:      map[string]uint64{"nofile": 20000}, MinOomScoreAdj: -10, CPUs: 4,
		CpusetCPUs: "0-3", CpusetMems: "0", SwapLimit: true, OomKillDisable: true,
		Idmap: func(userNS, path string, recursive bool) error {
			if path == "/proc" || path == "/" && recursive {
				return errors.New("its file system (proc) cannot be mapped to the ids of a user namespace")
			}
			return nil
		},
		Shared: func(path string) (bool, bool, error) { return path == "/tmp", false, nil },
	}
}

// testInput is a container as most are; scripts change it.
func testInput() Input {
	return Input{
		Key:        triton.ContainerKey{Tenant: "default", ID: strings.Repeat("abcdef0123456789", 4)},
		Spec:       &triton.Spec{Cmd: []string{"true"}},
		Rootfs:     Layers{"testdata/rootfs"},
		CgroupPath: "/triton-t/c",
		Limits:     testLimits(),
	}
}

// TestSpecAnswers runs the scripts in testdata/oci. A case is:
//
//	case NAME
//	spec JSON          fields of triton.Spec (optional)
//	in JSON            fields of Input (optional)
//	exec JSON          fields of triton.ExecSpec: ask for an exec instead (optional)
//	show PATH          what of the answer to show, a dotted path; may repeat
//	----
//	the answer: JSON, warnings, or the error
func TestSpecAnswers(t *testing.T) {
	files, err := filepath.Glob("testdata/oci/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		question, want, _ := strings.Cut(block, "\n----\n")
		question = strings.TrimSuffix(question, "\n----")
		got, err := answer(question)
		if err != nil {
			t.Fatalf("%s: %v", question, err)
		}
		if !*update {
			if d := cmp.Diff(strings.TrimSpace(want), got); d != "" {
				t.Errorf("%s\n(-want +got):\n%s", question, d)
			}
		}
		out = append(out, question+"\n----\n"+got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// answer runs one case.
func answer(question string) (string, error) {
	in := testInput()
	var show []string
	var exec *triton.ExecSpec
	for _, l := range strings.Split(question, "\n") {
		word, rest, _ := strings.Cut(l, " ")
		var err error
		switch word {
		case "case", "#":
		case "spec":
			err = strictJSON(rest, in.Spec)
		case "in":
			err = strictJSON(rest, &in)
		case "exec":
			exec = &triton.ExecSpec{}
			err = strictJSON(rest, exec)
		case "show":
			show = append(show, rest)
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return "", err
		}
	}
	var got any
	var warnings []string
	var err error
	if exec != nil {
		got, err = ExecProcess(in, *exec)
	} else {
		got, warnings, err = Spec(in)
	}
	if err != nil {
		return "error (" + kindName(err) + "): " + err.Error(), nil
	}
	return render(got, show, warnings)
}

func strictJSON(s string, v any) error {
	d := json.NewDecoder(strings.NewReader(s))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func kindName(err error) string {
	switch {
	case errdefs.IsInvalidArgument(err):
		return "invalid"
	case errdefs.IsFailedPrecondition(err):
		return "precondition"
	}
	return "internal"
}

// render shows parts of a value as JSON: short ones on a line, lists of objects one a line.
func render(v any, show, warnings []string) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var out []string
	for _, path := range show {
		part, err := pick(raw, splitPath(path))
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		var list []json.RawMessage
		if bytes.HasPrefix(part, []byte("[{")) && json.Unmarshal(part, &list) == nil {
			for _, e := range list {
				out = append(out, string(e))
			}
			continue
		}
		out = append(out, string(part))
	}
	for _, w := range warnings {
		out = append(out, "warning: "+w)
	}
	return strings.Join(out, "\n"), nil
}

// pick follows a dotted path; "mounts[/dev/shm]" is the element whose destination, path or type is that.
func pick(raw []byte, path []string) ([]byte, error) {
	for _, name := range path {
		name, index, indexed := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		var m map[string]json.RawMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, err
		}
		part, ok := m[name]
		if !ok {
			return []byte("none"), nil
		}
		raw = part
		if !indexed {
			continue
		}
		var list []map[string]json.RawMessage
		err := json.Unmarshal(raw, &list)
		if err != nil {
			return nil, err
		}
		e, ok := find(list, index)
		if !ok {
			return []byte("none"), nil
		}
		if raw, err = json.Marshal(e); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func find(list []map[string]json.RawMessage, name string) (map[string]json.RawMessage, bool) {
	for _, e := range list {
		for _, key := range []string{"destination", "path", "type"} {
			if string(e[key]) == fmt.Sprintf("%q", name) {
				return e, true
			}
		}
	}
	return nil, false
}

// splitPath splits at dots outside of brackets.
func splitPath(path string) []string {
	depth := 0
	return strings.FieldsFunc(path, func(r rune) bool {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		}
		return r == '.' && depth == 0
	})
}

func TestSpecDoesNotChangeItsInput(t *testing.T) {
	in := testInput()
	in.Spec.Mounts = []triton.Mount{{Type: triton.MountTmpfs, Target: "/b/c", ReadOnly: true}, {Type: triton.MountTmpfs, Target: "/a", Options: []string{"exec"}}}
	in.Spec.Env = []string{"A=1"}
	before, _ := json.Marshal(in.Spec)
	for range 2 {
		if _, _, err := Spec(in); err != nil {
			t.Fatal(err)
		}
	}
	after, _ := json.Marshal(in.Spec)
	if d := cmp.Diff(string(before), string(after)); d != "" {
		t.Errorf("the wish changed (-before +after):\n%s", d)
	}
}

func TestDefaultSeccompHasOneArchitecture(t *testing.T) {
	s, _, err := Spec(testInput())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Linux.Seccomp.Architectures); n != 1 {
		t.Errorf("%d architectures, want 1", n)
	}
	if len(s.Linux.Seccomp.Syscalls) == 0 || s.Linux.Seccomp.DefaultAction != specs.ActErrno {
		t.Errorf("not a filter: default %s, %d rules", s.Linux.Seccomp.DefaultAction, len(s.Linux.Seccomp.Syscalls))
	}
}

func TestWarningsAreSaidOnce(t *testing.T) {
	var said strings.Builder
	r := &Runtime{log: slog.New(slog.NewTextHandler(&said, nil)), warned: map[string]bool{}}
	for range 3 {
		r.Warn([]string{"ulimit nofile: this machine allows at most 20000"})
	}
	if n := strings.Count(said.String(), "nofile"); n != 1 {
		t.Errorf("said %d times, want once", n)
	}
}

func FuzzParseList(f *testing.F) {
	for _, s := range []string{"", "0", "0-3,7", "3-1", "0-999999999999", ",", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		set, err := parseList(s)
		if err == nil && s != "" && len(set) == 0 {
			t.Errorf("%q is an empty set", s)
		}
	})
}
