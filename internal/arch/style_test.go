package arch

import (
	"bytes"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTree(t *testing.T) {
	packs := tree(t)
	for name, rule := range map[string]func(*testing.T, []pack){
		"imports go down only":           importsGoDownOnly,
		"files and functions are short":  filesAndFunctionsAreShort,
		"packages say what they own":     packagesSayWhatTheyOwn,
		"exported names are documented":  exportedNamesAreDocumented,
		"nothing runs before main":       nothingRunsBeforeMain,
		"tests do not sleep":             testsDoNotSleep,
		"tests do not skip":              testsDoNotSkip,
		"BPF programs are short":         bpfFilesAreShort,
		"the text names no other places": textNamesNoOtherPlaces,
	} {
		t.Run(name, func(t *testing.T) { rule(t, packs) })
	}
}

const (
	maxFileLines = 600
	maxFuncLines = 80
)

func filesAndFunctionsAreShort(t *testing.T, packs []pack) {
	for _, p := range packs {
		for _, f := range p.files {
			if f.lines > maxFileLines {
				t.Errorf("%s has %d lines, at most %d", f.path, f.lines, maxFileLines)
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				fn, ok := n.(*ast.FuncDecl)
				if !ok {
					return true
				}
				if lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; lines > maxFuncLines {
					t.Errorf("%s: %s has %d lines, at most %d", f.position(fn), fn.Name.Name, lines, maxFuncLines)
				}
				return true
			})
		}
	}
}

var (
	// emptyVerbs say nothing about what a package is answerable for.
	emptyVerbs = regexp.MustCompile(`^Package \w+ (contains|provides|implements|is|has|includes|offers)\b`)
	negation   = regexp.MustCompile(`(?i)\b(not|no|never|nothing|neither|nor)\b`)
)

// packagesSayWhatTheyOwn: the first sentence says what a package owns, the text also what it must not do.
func packagesSayWhatTheyOwn(t *testing.T, packs []pack) {
	for _, p := range packs {
		home, prefix := "doc.go", "Package "+p.Name+" "
		if p.Name == "main" {
			home, prefix = "", "Command "+filepath.Base(p.Dir)+" "
		}
		var docs []string
		for _, f := range p.files {
			if f.syntax.Doc == nil {
				continue
			}
			docs = append(docs, f.syntax.Doc.Text())
			if home != "" && filepath.Base(f.path) != home && len(p.GoFiles) > 1 {
				t.Errorf("%s: the package's comment belongs in doc.go", f.path)
			}
		}
		switch {
		case len(docs) != 1:
			t.Errorf("%s has %d package comments, want 1", p.path(), len(docs))
		case !strings.HasPrefix(docs[0], prefix):
			t.Errorf("%s: the package comment must begin with %q", p.path(), prefix)
		case emptyVerbs.MatchString(docs[0]):
			t.Errorf("%s: say what the package owns, not what it %q", p.path(), emptyVerbs.FindStringSubmatch(docs[0])[1])
		case p.Name != "main" && !negation.MatchString(docs[0]):
			t.Errorf("%s: the package comment does not say what the package must not do", p.path())
		}
	}
}

func exportedNamesAreDocumented(t *testing.T, packs []pack) {
	for _, p := range packs {
		if p.Name == "main" {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, decl := range f.syntax.Decls {
				for _, id := range undocumented(decl) {
					t.Errorf("%s: %s has no comment", f.position(id), id.Name)
				}
			}
		}
	}
}

// undocumented returns the exported names of a declaration without a comment. A comment on a group of constants or
// variables counts for each of them; methods of unexported types are nobody's business.
func undocumented(decl ast.Decl) []*ast.Ident {
	var bare []*ast.Ident
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			bare = append(bare, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					bare = append(bare, s.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						bare = append(bare, name)
					}
				}
			}
		}
	}
	return bare
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	id, ok := typ.(*ast.Ident)
	return !ok || id.IsExported()
}

// initAllowed are the files that may have an init function, with the reason.
var initAllowed = map[string]string{
	"cmd/triton-shim/main.go": "libcontainer re-executes the binary as a container's first process, before main",
}

func nothingRunsBeforeMain(t *testing.T, packs []pack) {
	for _, p := range packs {
		for _, f := range p.files {
			if _, ok := initAllowed[f.path]; ok {
				continue
			}
			for _, decl := range f.syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init is not allowed", f.position(fn))
				}
			}
		}
	}
}

// testsDoNotSleep: a test waits for a condition. time.Sleep is allowed as the pause of a loop that polls one.
func testsDoNotSleep(t *testing.T, packs []pack) {
	for _, p := range packs {
		for _, f := range p.files {
			if !f.test && !strings.HasPrefix(f.path, "test/") {
				continue
			}
			for _, call := range callsOutsideLoops(f.syntax, "time", "Sleep") {
				t.Errorf("%s: time.Sleep outside a loop that polls a condition", f.position(call))
			}
		}
	}
}

// callsOutsideLoops finds calls of pkg.name that no for statement of the same function encloses.
func callsOutsideLoops(root ast.Node, pkg, name string) []*ast.CallExpr {
	var found []*ast.CallExpr
	var stack []ast.Node
	ast.Inspect(root, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		if call, ok := n.(*ast.CallExpr); ok && isCall(call, pkg, name) && !inLoop(stack) {
			found = append(found, call)
		}
		stack = append(stack, n)
		return true
	})
	return found
}

func inLoop(stack []ast.Node) bool {
	for _, n := range slices.Backward(stack) {
		switch n.(type) {
		case *ast.ForStmt:
			return true
		case *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}

// skipAllowed are the files whose tests may skip, with what the kernel or the engine under test lacks then.
var skipAllowed = map[string]string{
	"pkg/cgroup/kernel_test.go": "limits through v1 hierarchies, on a machine that has only v2",
	"test/e2e/under_test.go":    "what only tritond has, when the suite runs against another engine",
	"test/e2e/api_test.go":      "what engine 20.10 answers otherwise, when the suite runs against it",
}

func testsDoNotSkip(t *testing.T, packs []pack) {
	skips := regexp.MustCompile(`^(Skip|Skipf|SkipNow)$`)
	for _, p := range packs {
		for _, f := range p.files {
			if _, ok := skipAllowed[f.path]; ok {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if sel, ok := call.Fun.(*ast.SelectorExpr); ok && skips.MatchString(sel.Sel.Name) {
						t.Errorf("%s: a test that skips proves nothing", f.position(call))
					}
				}
				return true
			})
		}
	}
}

// maxBPFLines bounds the C files: one subject each.
const maxBPFLines = 200

func bpfFilesAreShort(t *testing.T, _ []pack) {
	sources, err := filepath.Glob(filepath.Join(root(t), "bpf", "*.[ch]"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("no BPF sources found: %v", err)
	}
	for _, path := range sources {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(data, []byte("\n")); lines > maxBPFLines {
			t.Errorf("%s has %d lines, at most %d", filepath.Base(path), lines, maxBPFLines)
		}
		if !bytes.Contains(data[:min(len(data), 200)], []byte("SPDX-License-Identifier: ")) {
			t.Errorf("%s does not begin with its licence (SPDX)", filepath.Base(path))
		}
	}
}

// textNamesNoOtherPlaces: the project stands alone. What its text refers to is in it, or public.
func textNamesNoOtherPlaces(t *testing.T, _ []pack) {
	foreign := regexp.MustCompile("/" + `work/|\.\./` + "shared|" + `\bproxy\.` + "golang")
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) || bytes.IndexByte(data, 0) >= 0 {
			continue // removed in the work tree, or binary
		}
		if err != nil {
			t.Fatal(err)
		}
		if at := foreign.FindIndex(data); at != nil {
			t.Errorf("%s:%d names %q", name, 1+bytes.Count(data[:at[0]], []byte("\n")), data[at[0]:at[1]])
		}
	}
}
