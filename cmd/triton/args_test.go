package main

import (
	"io"
	"strings"
	"testing"
)

func TestOneArgumentAmongFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		ref  string // "": refused
		json bool
	}{
		{[]string{"web"}, "web", false},
		{[]string{"-json", "web"}, "web", true},
		{[]string{"web", "--json"}, "web", true},
		{[]string{"web", "db"}, "", false},
		{[]string{"-json", "web", "db"}, "", false},
		{[]string{"web", "-json", "db"}, "", false},
		{[]string{"web", "-jsn"}, "", false},
		{[]string{"-json"}, "", false},
		{[]string{""}, "", false},
		{nil, "", false},
	} {
		fs := newFlags("x")
		raw := fs.Bool("json", false, "")
		ref, err := oneBetween(fs, c.args)
		if (err != nil) != (c.ref == "") || err == nil && (ref != c.ref || *raw != c.json) {
			t.Errorf("%q: %q, %t, %v", c.args, ref, *raw, err)
		}
	}
}

func TestExplainRefusesAnExtraArgument(t *testing.T) {
	err := explain(t.Context(), nil, []string{"web", "db"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "explain [--json] CONTAINER") {
		t.Errorf("%v", err)
	}
}
