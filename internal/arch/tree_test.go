package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is the import path of the project.
const module = "github.com/tritond/triton"

// pack is one package of the project as `go list` and the parser see it.
type pack struct {
	ImportPath, Dir, Name              string
	GoFiles, TestGoFiles, XTestGoFiles []string
	CgoFiles                           []string
	Imports                            []string

	files []file // parsed, tests included, generated ones not
}

// file is one parsed Go file.
type file struct {
	path   string // from the project's root
	test   bool
	syntax *ast.File
	lines  int
	fset   *token.FileSet
}

// position returns where a node stands, as path:line.
func (f file) position(n ast.Node) string {
	p := f.fset.Position(n.Pos())
	p.Filename = f.path
	p.Column = 0
	return p.String()
}

// tree lists and parses every package of the project.
func tree(t *testing.T) []pack {
	t.Helper()
	var packs []pack
	dec := json.NewDecoder(bytes.NewReader(goList(t, "-json", "./...")))
	for {
		var p pack
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		p.parse(t)
		packs = append(packs, p)
	}
	if len(packs) < 10 {
		t.Fatalf("only %d packages found", len(packs))
	}
	return packs
}

// goList runs `go list` over the project with the tags of its binaries.
func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", append([]string{"list", "-tags", "seccomp"}, args...)...)
	cmd.Dir, cmd.Stderr = root(t), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	return out
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (p *pack) parse(t *testing.T) {
	t.Helper()
	add := func(names []string, test bool) {
		for _, name := range names {
			fset := token.NewFileSet()
			path := filepath.Join(p.Dir, name)
			syntax, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(syntax) {
				continue
			}
			rel, err := filepath.Rel(root(t), path)
			if err != nil {
				t.Fatal(err)
			}
			lines := fset.File(syntax.Pos()).LineCount()
			p.files = append(p.files, file{path: rel, test: test, syntax: syntax, lines: lines, fset: fset})
		}
	}
	add(p.GoFiles, false)
	add(p.CgoFiles, false)
	add(p.TestGoFiles, true)
	add(p.XTestGoFiles, true)
}

// path is the import path below the module.
func (p *pack) path() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}
