package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// askOptions are how answers are shown.
type askOptions struct {
	raw    bool
	during time.Duration // 0: until somebody interrupts it
}

// ask is `triton ask METRIC`: on a terminal it shows what was counted since it began, elsewhere each second, or with -d all at the
// end. Flags may follow the metric.
func ask(c *client, args []string, out, notes io.Writer) error {
	fs := newFlags("ask")
	var t question.Text
	var o askOptions
	fs.StringVar(&t.Where, "where", "", "")
	fs.StringVar(&t.By, "by", "", "")
	fs.BoolVar(&o.raw, "json", false, "")
	fs.DurationVar(&o.during, "d", 0, "")
	var err error
	if t.Metric, err = oneBetween(fs, args); err != nil || o.during < 0 {
		return usageError("ask syscall|block|runqueue|tcp [-where PREDICATE] [-by NAME,…] [-d TIME] [-json]")
	}
	resp, err := c.send(context.Background(), http.MethodGet, wire.AskQuery(t), nil)
	if err != nil {
		return explainMistake(err, t)
	}
	defer resp.Body.Close()
	if o.during > 0 {
		// The answer that is under way counts: it comes within a second more.
		time.AfterFunc(o.during+100*time.Millisecond, func() { resp.Body.Close() })
	}
	return printAnswers(resp.Body, newTally(t), o, out, notes)
}

// explainMistake shows where in the question a mistake is.
func explainMistake(err error, t question.Text) error {
	var r refusal
	if !errors.As(err, &r) {
		return err
	}
	text, ok := map[string]string{"where": t.Where, "by": t.By}[r.In]
	if !ok || r.At < 0 || r.At > len(text) || strings.ContainsAny(text, "\n\t") {
		return err
	}
	return fmt.Errorf("%s\n  %s\n  %*s", oneLine(r.What), oneLine(text), len([]rune(text[:r.At]))+1, "^")
}

// printAnswers shows answers as they come.
func printAnswers(in io.Reader, all *tally, o askOptions, out, notes io.Writer) error {
	lines := bufio.NewReaderSize(in, 1<<16)
	screen := isTerminal(out) && o.during == 0
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if o.during > 0 && !o.raw {
				return all.print(out, 0)
			}
			if o.during > 0 || errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			return fmt.Errorf("read answers: %w", err)
		}
		var a question.Answer
		if err := json.Unmarshal(line, &a); err != nil {
			return fmt.Errorf("decode answers: %w", err)
		}
		switch {
		case o.raw:
			_, err = out.Write(line)
		case a.Failed:
			return errors.New(oneLine(a.Ended))
		case a.Ended != "":
			_, err = fmt.Fprintln(notes, oneLine(a.Ended))
		case o.during > 0:
			all.add(a)
		case screen:
			all.add(a)
			fmt.Fprint(out, "\x1b[H\x1b[J")
			err = all.print(out, height(out))
		default:
			one := newTally(all.question)
			one.add(a)
			fmt.Fprintln(out, a.At.Local().Format(time.TimeOnly))
			err = one.print(out, 0)
		}
		if err != nil {
			return err
		}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// height is how many lines a terminal has.
func height(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Row > 0 {
			return int(size.Row)
		}
	}
	return 24
}
