package relay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stats counts what became of clients. Bytes are data, without headers.
type Stats struct {
	Connections int    // of TCP, open now
	Accepted    uint64 // connections of TCP
	Waited      uint64 // of those: who found maxConnections open, and had to wait for one to end
	Unreached   uint64 // of those: who were reset, because the container did not take them
	TCPIn       uint64 // bytes that the container was sent
	TCPOut      uint64 // bytes that it sent

	Flows   int    // of UDP: clients that sent or got something in the last flowIdle
	Begun   uint64 // flows ever
	Evicted uint64 // of those: who were forgotten early, in favour of newer ones
	Dropped uint64 // datagrams for which the kernel had no room, or that led nowhere
	UDPIn   uint64
	UDPOut  uint64
}

// cell names a number of counters. It is the number's place in the file, so new ones go to the end.
type cell int

const (
	openConnections cell = iota // a gauge
	accepted
	waited
	unreached
	tcpIn
	tcpOut
	openFlows // a gauge
	begun
	evicted
	dropped
	udpIn
	udpOut
	cells
)

// counters are the numbers of a Relay, in a file where there is one: who reads that asks nobody, and another Relay of the same
// container goes on from there.
type counters [cells]atomic.Uint64

// openCounters maps the file at path, which is made; the gauges begin at zero. The mapping stays: a Relay lasts as long as
// its process.
func openCounters(path string) (*counters, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(cells) * 8); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(cells)*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	c := (*counters)(unsafe.Pointer(unsafe.SliceData(mem)))
	c[openConnections].Store(0)
	c[openFlows].Store(0)
	return c, nil
}

func (c *counters) add(to cell, n int) { c[to].Add(uint64(n)) }

// less ends one that a gauge counts.
func (c *counters) less(of cell) { c[of].Add(^uint64(0)) }

// sent counts a datagram of so many bytes.
func (c *counters) sent(ok bool, bytes cell, n int) {
	if !ok {
		c.add(dropped, 1)
		return
	}
	c.add(bytes, n)
}

func (c *counters) stats() Stats { return statsOf(func(at cell) uint64 { return c[at].Load() }) }

func statsOf(at func(cell) uint64) Stats {
	return Stats{
		Connections: int(at(openConnections)), Accepted: at(accepted), Waited: at(waited), Unreached: at(unreached), TCPIn: at(tcpIn), TCPOut: at(tcpOut),
		Flows: int(at(openFlows)), Begun: at(begun), Evicted: at(evicted), Dropped: at(dropped), UDPIn: at(udpIn), UDPOut: at(udpOut),
	}
}

// ReadStats reads the counters of a Relay that New was given path; zero where there is none. It asks nobody. A Relay of an
// older or newer build may have fewer or more of them.
func ReadStats(path string) (Stats, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Stats{}, nil
	}
	if err != nil {
		return Stats{}, err
	}
	defer f.Close()
	var raw [cells * 8]byte
	if _, err := io.ReadFull(f, raw[:]); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return Stats{}, fmt.Errorf("read counters of ports: %w", err)
	}
	return statsOf(func(at cell) uint64 { return binary.NativeEndian.Uint64(raw[at*8:]) }), nil
}
