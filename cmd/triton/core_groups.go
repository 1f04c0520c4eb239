package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/tritond/triton/pkg/crashgroup"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// coreGroups is `triton cores groups [VERB]`.
func coreGroups(ctx context.Context, c *client, args []string, out io.Writer) error {
	verb := "ls"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	switch {
	case verb == "ls":
		return listGroups(ctx, c, args, out)
	case verb == "show":
		return showGroup(ctx, c, args, out)
	case verb == "resolve" && len(args) > 0:
		return changeGroups(ctx, c, http.MethodPost, args, out)
	case verb == "reopen" && len(args) > 0:
		return changeGroups(ctx, c, http.MethodDelete, args, out)
	}
	return usageError(fmt.Sprintf("unknown command or wrong number of arguments: cores groups %s %q", verb, args))
}

func changeGroups(ctx context.Context, c *client, method string, refs []string, out io.Writer) error {
	var errs []error
	for _, ref := range refs {
		var g crashgroup.Group
		err := c.do(ctx, method, wire.ResolvePath(ref), nil, &g)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s  %s\n", g.ID, g.State)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func listGroups(ctx context.Context, c *client, args []string, out io.Writer) error {
	fs := newFlags("cores groups")
	raw := fs.Bool("json", false, "")
	if err := fs.Parse(args); err != nil || fs.NArg() != 0 {
		return usageError("cores groups [-json]")
	}
	var l wire.GroupList
	if err := c.get(ctx, wire.GroupsPath, &l); err != nil {
		return err
	}
	if *raw {
		return encodeIndented(out, l)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tSTATE\tCOUNT\tFIRST\tLAST\tSIGNAL\tIMAGES\tWHERE")
	for _, g := range l.Groups {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.State, crashes(g), day(g.First), day(g.Last), g.Signal, oneLine(names(g.Images)),
			oneLine(g.Top))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if l.Damaged > 0 {
		return fmt.Errorf("%d groups could not be read", l.Damaged)
	}
	return nil
}

// crashes is how many a group has, and of how many nothing but the place is known: --core-cpu.
func crashes(g *crashgroup.Group) string {
	if g.CountedOnly == 0 {
		return fmt.Sprint(g.Count)
	}
	return fmt.Sprintf("%d (%d only counted)", g.Count, g.CountedOnly)
}

// shownNames is how many of a list a row has.
const shownNames = 3

func names(t crashgroup.Tallies) string {
	var out []string
	seen := map[string]bool{}
	for _, s := range t.Seen {
		if !seen[s.Name] {
			seen[s.Name], out = true, append(out, s.Name)
		}
	}
	if n := len(out) - shownNames; n > 0 {
		out = append(out[:shownNames], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(out, ", ")
}

func showGroup(ctx context.Context, c *client, args []string, out io.Writer) error {
	return show(ctx, c, "cores groups show [-json] GROUP", args, wire.GroupPath, out, printGroup)
}

func printGroup(out io.Writer, g *wire.Group) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "group\t%s, %s\n", g.ID, g.State)
	fmt.Fprintf(w, "where\t%s of %q, %s\n", g.Signal, g.Comm, oneLine(g.Top))
	fmt.Fprintf(w, "functions\t%s\n", oneLine(strings.Join(g.Frames, " < ")))
	fmt.Fprintf(w, "crashes\t%s, first %s, last %s\n", crashes(g.Group), day(g.First), day(g.Last))
	if g.OperatorOnly {
		fmt.Fprintln(w, "for operators only\tof setuid programs or the like")
	}
	if r := g.Resolved; r != nil {
		fmt.Fprintf(w, "resolved\t%s by %s; %d images had crashed by then\n", day(r.At), oneLine(r.By), len(r.Images))
	}
	if r := g.Regressed; r != nil {
		fmt.Fprintf(w, "regressed\t%s, dump %s of %s (%s)\n", day(r.At), r.Dump, oneLine(r.Image), r.ImageID)
	}
	for _, l := range []struct {
		head string
		t    crashgroup.Tallies
	}{{"IMAGE", g.Images}, {"CONTAINER", g.Containers}, {"NODE", g.Nodes}, {"EXACT SIGNATURE", g.Exact}} {
		printTallies(w, l.head, l.t)
	}
	fmt.Fprintln(w, "\nDUMP\tTIME\tCONTAINER\tIMAGE\tBODY")
	for _, k := range g.Cores[:min(len(g.Cores), shownRows)] {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, day(k.At), k.Name, k.Image, bodyOf(k))
	}
	more(w, len(g.Cores))
	return w.Flush()
}

func printTallies(w io.Writer, head string, t crashgroup.Tallies) {
	fmt.Fprintf(w, "\n%s\tCOUNT\tFIRST\tLAST\tDIGEST\n", head)
	for _, s := range t.Seen[:min(len(t.Seen), shownRows)] {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", oneLine(s.Name), s.Count, day(s.First), day(s.Last), s.ID)
	}
	more(w, len(t.Seen))
	if t.Others > 0 {
		fmt.Fprintf(w, "others\t%d\n", t.Others)
	}
}
