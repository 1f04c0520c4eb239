package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: testsum FILE")
		os.Exit(2)
	}
	file, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	passed, failed := sum(file, os.Stdout)
	fmt.Println(passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

// sum writes the output of what failed to w and counts. A package that fails without a failing test (it does not
// build, it panics, it leaves no time) counts as one failure, and so does a run without a single test.
func sum(r io.Reader, w io.Writer) (passed, failed int) {
	output := map[string]*strings.Builder{} // by package and test
	failedIn := map[string]bool{}           // packages with a failed test
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintf(w, "%s\n", lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		if e.Action == "build-output" {
			key = e.ImportPath
		}
		if output[key] == nil {
			output[key] = &strings.Builder{}
		}
		switch {
		case e.Action == "output" || e.Action == "build-output":
			output[key].WriteString(e.Output)
			continue
		case e.Action == "pass" && e.Test != "":
			passed++
		case e.Action == "fail" && e.Test == "" && failedIn[e.Package]:
			fmt.Fprint(w, output[key]) // what the package printed outside its tests
		case e.Action == "fail":
			failed++
			failedIn[e.Package] = true
			fmt.Fprintf(w, "--- failed: %s\n%s", key, output[key])
			if b := output[e.FailedBuild]; e.FailedBuild != "" && b != nil {
				fmt.Fprint(w, b)
			}
		case e.Action == "skip" && e.Test != "":
			failed++
			failedIn[e.Package] = true
			fmt.Fprintf(w, "--- skipped, which counts as failed: %s\n%s", key, output[key])
		}
		if e.Action != "run" && e.Action != "pause" && e.Action != "cont" && e.Action != "start" {
			delete(output, key)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(w, "--- failed:", err)
		failed++
	}
	if passed+failed == 0 {
		fmt.Fprintln(w, "--- failed: no test ran")
		failed++
	}
	return passed, failed
}
