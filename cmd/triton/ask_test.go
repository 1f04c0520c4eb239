package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/question"
	"github.com/tritond/triton/pkg/triton"
	"github.com/tritond/triton/pkg/tritonapi/wire"
)

const twoAnswers = `{"at":"2026-01-02T03:04:05Z","seconds":1,"rows":[{"key":{"comm":"nginx","errno":"0"},"count":10,"timed":8,"ns":8000,"latency":{"schema":2,"first":-80,"counts":[8],"sumNs":8000}},{"key":{"comm":"a\u001b","errno":"EIO"},"count":1,"timed":0,"ns":0}],"rest":{"count":4,"timed":4,"ns":400},"containers":2,"price":{"runs":1000,"cpu":0.0123}}
{"at":"2026-01-02T03:04:06Z","seconds":1,"rows":[{"key":{"comm":"nginx","errno":"0"},"count":5,"timed":2,"ns":2000,"bytes":7,"latency":{"schema":2,"first":-60,"counts":[1,0,1],"sumNs":2000}}],"lost":3,"containers":1,"price":{"runs":500,"cpu":0.5}}
`

func TestAnswersAreAddedUp(t *testing.T) {
	q := question.Text{Metric: "syscall", By: "comm, errno,latency"}
	all := newTally(q)
	var out, notes strings.Builder
	err := printAnswers(strings.NewReader(twoAnswers+`{"ended":"the daemon ends"}`+"\n"), all, askOptions{during: 1}, &out, &notes)
	want := `COMM    ERRNO  COUNT  PER SECOND  MEAN   P50    P99     MAX     BYTES
nginx   0      15     7.5         1µs    953ns  43.2µs  43.2µs  7
a.      EIO    1      0.5         -      -      -       -       0
(rest)         4      2.0         100ns  -      -       -       0
2 s of 1 container; the question's programs: 500 runs a second, 50.00% of one CPU; 3 events lost
`
	if d := cmp.Diff(want, out.String()); d != "" || err != nil || notes.String() != "the daemon ends\n" {
		t.Errorf("%v, notes %q, (-want +got):\n%s", err, notes.String(), d)
	}
	out.Reset()
	if n := all.printHeat(&out); n != 7 || !strings.HasPrefix(out.String(), "    61µs │ ░\n  30.5µs │ ░\n  15.3µs │\n") || !strings.HasSuffix(out.String(), "   953ns │█\n") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	out.Reset()
	if err := printAnswers(strings.NewReader(twoAnswers), newTally(q), askOptions{raw: true}, &out, &notes); err != nil || out.String() != twoAnswers {
		t.Errorf("raw is %q, %v", out.String(), err)
	}
	if err := printAnswers(strings.NewReader(`{"ended":"no room","failed":true}`+"\n"), newTally(q), askOptions{}, &out, &notes); err == nil || err.Error() != "no room" {
		t.Errorf("an end by an error is %v", err)
	}
}

// However many there are, a bounded number of rows is kept and shown, and nothing is left out of the sums.
func TestTallyIsBounded(t *testing.T) {
	all := newTally(question.Text{Metric: "syscall", By: "path"})
	for from := range 3 {
		var a question.Answer
		for i := range tallyRows / 2 {
			path := fmt.Sprint(from*tallyRows/2 + i)
			a.Rows = append(a.Rows, question.Row{Key: map[string]string{"path": path}, Counted: question.Counted{Count: 1, Latency: &triton.Histogram{}}})
		}
		all.add(a)
	}
	if len(all.rows) != tallyRows || all.rest.Count != tallyRows/2 {
		t.Errorf("%d rows, the rest is %d", len(all.rows), all.rest.Count)
	}
	var out strings.Builder
	if err := all.print(&out, 0); err != nil || strings.Count(out.String(), "\n") != tableRows+4 || !strings.Contains(out.String(), fmt.Sprintf("(%d more)  %d", tallyRows-tableRows, tallyRows-tableRows)) {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

func TestMistakesAreShownAtTheirPlace(t *testing.T) {
	r := refusal{wire.Mistake{Message: "all", In: "where", At: 7, What: "no error is named \"X\""}}
	got := explainMistake(r, question.Text{Where: "errno=XY"}).Error()
	if want := "no error is named \"X\"\n  errno=XY\n         ^"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.At = 99
	if got := explainMistake(r, question.Text{Where: "errno=XY"}).Error(); got != "all" {
		t.Errorf("%q", got)
	}
}
