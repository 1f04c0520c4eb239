package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func openTest(t *testing.T, cfg Config) *Journal {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// at is a moment n seconds after the beginning of these tests' time.
func at(n int) time.Time { return time.Unix(1_700_000_000+int64(n), 0).UTC() }

func mustAppend(t *testing.T, j *Journal, e triton.Event) triton.Event {
	t.Helper()
	e, err := j.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// appendN appends n events of tenant a, one second apart, whose ids are their numbers.
func appendN(t *testing.T, j *Journal, n int) {
	t.Helper()
	for range n {
		next := int(j.Stats().Last) + 1
		mustAppend(t, j, triton.Event{Time: at(next), Tenant: "a", Type: triton.EventContainer, Action: "start", ID: strconv.Itoa(next)})
	}
}

func readIDs(t *testing.T, j *Journal, tenant triton.Tenant, since, until time.Time) []string {
	t.Helper()
	var ids []string
	err := j.Read(t.Context(), tenant, since, until, func(e triton.Event) error {
		ids = append(ids, e.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestAppendedEventIsReadBackWhole(t *testing.T) {
	j := openTest(t, Config{Node: "n1"})
	want := mustAppend(t, j, triton.Event{
		Time: at(1), Tenant: "a", Type: triton.EventContainer, Action: "die", ID: "c1", Attributes: map[string]string{"exitCode": "42", "odd": "a\nb\x00ü"},
	})
	if want.Seq != 1 || want.Node != "n1" {
		t.Errorf("append gave number %d, node %q, want 1, n1", want.Seq, want.Node)
	}
	var got []triton.Event
	if err := j.Read(t.Context(), "", time.Time{}, time.Time{}, func(e triton.Event) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]triton.Event{want}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestReadSelectsByTimeAndTenant(t *testing.T) {
	j := openTest(t, Config{SegmentSize: 1 << 10, Segments: 20}) // about six lines in a segment
	appendN(t, j, 30)
	mustAppend(t, j, triton.Event{Time: at(31), Tenant: "b", ID: "other"})
	mustAppend(t, j, triton.Event{Time: at(3), Tenant: "a", ID: "late"}) // a death found long after
	for _, tc := range []struct {
		tenant       triton.Tenant
		since, until time.Time
		want         []string
	}{
		{"a", at(29), time.Time{}, []string{"29", "30"}},
		{"a", at(3), at(5), []string{"3", "4", "late"}},
		{"a", time.Time{}, at(3), []string{"1", "2"}},
		{"b", time.Time{}, time.Time{}, []string{"other"}},
		{"", at(30), time.Time{}, []string{"30", "other"}},
		{"c", time.Time{}, time.Time{}, nil},
	} {
		if diff := cmp.Diff(tc.want, readIDs(t, j, tc.tenant, tc.since, tc.until)); diff != "" {
			t.Errorf("%q from %s to %s: -want +got\n%s", tc.tenant, tc.since, tc.until, diff)
		}
	}
}

func TestReadStopsWithItsReadersError(t *testing.T) {
	j, stop := openTest(t, Config{}), errors.New("enough")
	appendN(t, j, 3)
	count := 0
	err := j.Read(t.Context(), "", time.Time{}, time.Time{}, func(triton.Event) error { count++; return stop })
	if !errors.Is(err, stop) || count != 1 {
		t.Errorf("got %v after %d events, want the reader's error after 1", err, count)
	}
}

func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	j := openTest(t, Config{Dir: dir, SegmentSize: 4 << 10, Segments: 3})
	appendN(t, j, 500)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("files: got %v (%v), want 3", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Size() > 4<<10 {
			t.Errorf("%s: %v, %v, want at most 4 KiB", f, info, err)
		}
	}
	st, ids := j.Stats(), readIDs(t, j, "", time.Time{}, time.Time{})
	if st.Last != 500 || st.First < 400 || ids[0] != strconv.FormatUint(st.First, 10) || ids[len(ids)-1] != "500" {
		t.Errorf("kept %d to %d, read %s to %s, want the newest up to 500", st.First, st.Last, ids[0], ids[len(ids)-1])
	}
}

func TestTooLargeEventIsRefusedAndUsesNoNumber(t *testing.T) {
	j := openTest(t, Config{SegmentSize: 4 << 10})
	_, err := j.Append(triton.Event{Attributes: map[string]string{"label": strings.Repeat("x", 2<<10)}})
	if !errdefs.IsInvalidArgument(err) || j.Stats().Refused != 1 {
		t.Errorf("got %v, %d refused, want invalid argument, 1", err, j.Stats().Refused)
	}
	if e := mustAppend(t, j, triton.Event{}); e.Seq != 1 {
		t.Errorf("next number: got %d, want 1", e.Seq)
	}
}

func TestNumbersGoOnAfterReopen(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		j := openTest(t, Config{Dir: dir, SegmentSize: 1 << 10, Segments: 2})
		appendN(t, j, 10)
		if got, want := j.Stats().Last, uint64(10*(round+1)); got != want {
			t.Errorf("round %d: last number %d, want %d", round, got, want)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// lastFile returns the path and content of the segment that is written to.
func lastFile(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	path := files[len(files)-1]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, data
}

func TestOpenRepairsDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		damage  func(data []byte) []byte
		want    []string // ids read
		next    uint64   // number of the next event
		corrupt uint64
		torn    bool
	}{
		"torn last line":  {func(d []byte) []byte { return d[:len(d)-10] }, []string{"1", "2", "3", "4"}, 5, 0, true},
		"lost newline":    {func(d []byte) []byte { return d[:len(d)-1] }, []string{"1", "2", "3", "4"}, 5, 0, true},
		"bit in line 2":   {func(d []byte) []byte { return flip(d, 2) }, []string{"1", "3", "4", "5"}, 6, 1, false},
		"bit in the last": {func(d []byte) []byte { return flip(d, 5) }, []string{"1", "2", "3", "4"}, 6, 1, false},
		"repeated line": {func(d []byte) []byte { return append(d, d[:bytes.IndexByte(d, '\n')+1]...) },
			[]string{"1", "2", "3", "4", "5"}, 7, 1, false},
		"garbage of many lines": {func(d []byte) []byte {
			first := bytes.IndexByte(d, '\n') + 1
			return append(bytes.Clone(d[:first]), append([]byte("\n\n\nx\n\n\n\n\n\n"), d[first:]...)...)
		}, []string{"1", "2", "3", "4", "5"}, 6, 9, false},
		"endless line": {func(d []byte) []byte { return append(append(bytes.Repeat([]byte("x"), 3<<20), '\n'), d...) },
			[]string{"1", "2", "3", "4", "5"}, 6, 1, false},
		"empty":       {func([]byte) []byte { return nil }, nil, 1, 0, false},
		"all zeros":   {func(d []byte) []byte { return make([]byte, len(d)) }, nil, 1, 0, true},
		"only a torn": {func(d []byte) []byte { return d[:20] }, nil, 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := openTest(t, Config{Dir: dir})
			appendN(t, j, 5)
			j.Close()
			path, data := lastFile(t, dir)
			if err := os.WriteFile(path, tc.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			again := openTest(t, Config{Dir: dir})
			if diff := cmp.Diff(tc.want, readIDs(t, again, "", time.Time{}, time.Time{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			st := again.Stats()
			if st.Corrupt != tc.corrupt || st.TornBytes > 0 != tc.torn {
				t.Errorf("counted %d corrupt lines, %d torn bytes, want %d, torn %t", st.Corrupt, st.TornBytes, tc.corrupt, tc.torn)
			}
			if e := mustAppend(t, again, triton.Event{ID: "new"}); e.Seq != tc.next {
				t.Errorf("next number: got %d, want %d", e.Seq, tc.next)
			}
			if diff := cmp.Diff(append(tc.want, "new"), readIDs(t, again, "", time.Time{}, time.Time{})); diff != "" {
				t.Errorf("after an append: -want +got\n%s", diff)
			}
		})
	}
}

// flip changes one bit in the middle of the n-th line.
func flip(data []byte, n int) []byte {
	data = bytes.Clone(data)
	begin := 0
	for range n - 1 {
		begin += bytes.IndexByte(data[begin:], '\n') + 1
	}
	data[begin+40] ^= 4
	return data
}

// collect follows j in a goroutine; it hands over entries one by one.
func collect(t *testing.T, j *Journal, from uint64) (entries <-chan Entry, stop func() error) {
	t.Helper()
	ch, done := make(chan Entry), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- j.Follow(ctx, "a", from, func(e Entry) error {
			select {
			case ch <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return ch, func() error { cancel(); return receive(t, done) }
}

// receive takes one value, or fails the test after ten seconds.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("unreachable")
	}
}

func TestFollowGivesOldThenNewWithoutGap(t *testing.T) {
	j := openTest(t, Config{SegmentSize: 1 << 10, Segments: 100})
	appendN(t, j, 20)
	entries, stop := collect(t, j, 5)
	appended := make(chan error, 1)
	go func() {
		var err error
		for i := 21; i <= 200 && err == nil; i++ {
			_, err = j.Append(triton.Event{Tenant: "a", ID: strconv.Itoa(i)})
		}
		appended <- err
	}()
	for want := uint64(5); want <= 200; want++ {
		if e := receive(t, entries); e.Seq != want || e.Lost != 0 {
			t.Fatalf("got number %d after %d lost, want %d", e.Seq, e.Lost, want)
		}
	}
	if err := receive(t, appended); err != nil {
		t.Fatal(err)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("end: got %v, want canceled", err)
	}
}

func TestSlowFollowerLearnsHowManyItMissed(t *testing.T) {
	j := openTest(t, Config{SegmentSize: 1 << 10, Segments: 2})
	appendN(t, j, 1)
	entries, stop := collect(t, j, 0)
	receive(t, entries)
	appendN(t, j, 500) // the follower waits with number 2 in hand, or read only a few more
	var next, lost uint64 = 2, 0
	for next <= 501 {
		e := receive(t, entries)
		if e.Seq != next+e.Lost {
			t.Fatalf("got number %d after %d with %d lost", e.Seq, next-1, e.Lost)
		}
		next, lost = e.Seq+1, lost+e.Lost
	}
	if lost < 400 {
		t.Errorf("%d lost, want most of 500", lost)
	}
	stop()
}

func TestFollowEndsWithTheJournal(t *testing.T) {
	j := openTest(t, Config{})
	done := make(chan error, 1)
	go func() { done <- j.Follow(t.Context(), "", 0, func(Entry) error { return nil }) }()
	j.Close()
	if err := receive(t, done); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v, want unavailable", err)
	}
	if _, err := j.Append(triton.Event{}); !errdefs.IsUnavailable(err) {
		t.Errorf("append after close: got %v, want unavailable", err)
	}
}

func TestFollowFromTheFutureIsRefused(t *testing.T) {
	j := openTest(t, Config{})
	appendN(t, j, 2)
	if err := j.Follow(t.Context(), "", 4, nil); !errdefs.IsOutOfRange(err) {
		t.Errorf("got %v, want out of range", err)
	}
}

func TestStreamEndsAtUntil(t *testing.T) {
	j := openTest(t, Config{})
	now := time.Now()
	mustAppend(t, j, triton.Event{Time: now.Add(-time.Minute), Tenant: "a", ID: "before"})
	mustAppend(t, j, triton.Event{Time: now.Add(-time.Second), Tenant: "a", ID: "in"})
	mustAppend(t, j, triton.Event{Time: now.Add(time.Hour), Tenant: "a", ID: "after"})
	var got []string
	err := j.Stream(t.Context(), "a", now.Add(-2*time.Second), now.Add(50*time.Millisecond), func(e triton.Event) error {
		got = append(got, e.ID)
		return nil
	})
	if diff := cmp.Diff([]string{"in"}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got\n%s", err, diff)
	}
}

func TestStreamWithoutSinceGivesOnlyNewOnesAndShowsGaps(t *testing.T) {
	j := openTest(t, Config{SegmentSize: 1 << 10, Segments: 2})
	appendN(t, j, 3)
	first, goOn, got := make(chan string), make(chan struct{}), make(chan triton.Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go j.Stream(ctx, "a", time.Time{}, time.Time{}, func(e triton.Event) error {
		select {
		case first <- e.ID: // only once: nobody takes the second
			<-goOn
		case got <- e:
		}
		return nil
	})
	var id string
	waitFor(t, "a new event", func() bool {
		mustAppend(t, j, triton.Event{Tenant: "a", ID: "new"}) // the first ones may come before Stream began
		select {
		case id = <-first:
			return true
		default:
			return false
		}
	})
	if id != "new" {
		t.Errorf("first event: got %q, want a new one", id)
	}
	appendN(t, j, 100)
	mustAppend(t, j, triton.Event{Tenant: "a", ID: "end"})
	close(goOn)
	for {
		if e := receive(t, got); e.Action == "lost" {
			if n, err := strconv.Atoi(e.Attributes["count"]); err != nil || n < 1 || e.Type != triton.EventDaemon {
				t.Errorf("gap event: got %v", e)
			}
			return
		}
	}
}

// waitFor polls until the condition holds, or fails the test after ten seconds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("%s did not come within 10 s", what)
		case <-tick.C:
		}
	}
}

// writerDir makes this test binary a writer, to be killed, on the directory it names.
const writerDir = "TRITON_JOURNAL_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		j, err := Open(Config{Dir: dir, SegmentSize: 1 << 20})
		for err == nil {
			var e triton.Event
			if e, err = j.Append(triton.Event{ID: "x", Attributes: map[string]string{"pad": strings.Repeat("y", 3000)}}); err == nil {
				fmt.Println(e.Seq)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	dir, last := t.TempDir(), uint64(0)
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := last
		for lines := bufio.NewScanner(out); lines.Scan(); {
			seq, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil || seq <= acked {
				t.Fatalf("number %q after %d: %v", lines.Text(), acked, err)
			}
			if acked = seq; acked > last+uint64(100+50*round) {
				cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("writer was not killed")
		}
		j := openTest(t, Config{Dir: dir, SegmentSize: 1 << 20})
		if last = j.Stats().Last; last < acked || j.Stats().Corrupt != 0 {
			t.Errorf("round %d: %d acknowledged, last number after reopen %d, %d corrupt", round, acked, last, j.Stats().Corrupt)
		}
		j.Close()
	}
}
