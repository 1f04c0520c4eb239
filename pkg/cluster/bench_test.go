package cluster

import (
	"strconv"
	"testing"
)

// BenchmarkCreate measures one durable write: with fsync, one writer.
func BenchmarkCreate(b *testing.B) {
	c, err := Open(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	value := make([]byte, 2048)
	n := 0
	for b.Loop() {
		n++
		if _, err := c.Create(b.Context(), strconv.Itoa(n), value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReopen measures the start on a store of 1,000 records, as at a restart of the daemon, and its stop.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	c, err := Open(b.Context(), Config{Dir: dir, NoFsync: true})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if _, err := c.Create(b.Context(), strconv.Itoa(i), make([]byte, 2048)); err != nil {
			b.Fatal(err)
		}
	}
	c.Close()
	for b.Loop() {
		c, err := Open(b.Context(), Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
}
