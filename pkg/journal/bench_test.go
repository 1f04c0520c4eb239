package journal

import (
	"testing"
	"time"

	"github.com/tritond/triton/pkg/triton"
)

var typical = triton.Event{
	Node: "node", Tenant: "default", Type: triton.EventContainer, Action: "start", ID: triton.NewID(),
	Attributes: map[string]string{"image": "busybox", "name": "web", "run": "1"},
}

func BenchmarkAppend(b *testing.B) {
	j, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	for b.Loop() {
		if _, err := j.Append(typical); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReopenFull opens a journal that is full: 16 MiB.
func BenchmarkReopenFull(b *testing.B) {
	dir := b.TempDir()
	j, err := Open(Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	for j.Stats().First == 1 {
		if _, err := j.Append(typical); err != nil {
			b.Fatal(err)
		}
	}
	j.Close()
	for b.Loop() {
		j, err := Open(Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		j.Close()
	}
	last := 0
	j, err = Open(Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	began := time.Now()
	if err := j.Read(b.Context(), "", time.Now().Add(-time.Second), time.Time{}, func(triton.Event) error { last++; return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds()), "us-last-second")
}
