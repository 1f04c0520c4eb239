package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
)

// waited is for how long the neighbour's tasks waited, in seconds, by what for: who had the CPU, and why they were off it; and for how
// long something outside of this machine had its CPUs.
type waited map[string]float64

// neverMind are waits that are the neighbour's work: for the next request, and for its other half.
var neverMind = []string{"sleep", "network", "poll"}

var (
	delayLine  = regexp.MustCompile(`(?m)^triton_container_cpu_delay_seconds_total\{culprit="(\w+)",.*culprit_name="([^"]*)",.*name="neighbour"\} (\S+)$`)
	offCPULine = regexp.MustCompile(`(?m)^triton_container_off_cpu_seconds_total\{.*name="neighbour".*reason="(\w+)"\} (\S+)$`)
	stealField = regexp.MustCompile(`^cpu +(?:\d+ +){7}(\d+)`)
)

// waits reads them from the daemon's metrics, which are a second old at most.
func (b *bench) waits(ctx context.Context) (waited, error) {
	text, err := b.metrics(ctx)
	if err != nil {
		return nil, err
	}
	w := waited{}
	for _, m := range delayLine.FindAllStringSubmatch(text, -1) {
		culprit := m[1]
		switch {
		case m[2] != "":
			culprit = m[2]
		case culprit == "other": // containers that have ended
			culprit = "flood"
		}
		if w["CPU: "+culprit], err = strconv.ParseFloat(m[3], 64); err != nil {
			return nil, err
		}
	}
	for _, m := range offCPULine.FindAllStringSubmatch(text, -1) {
		if slices.Contains(neverMind, m[1]) {
			continue
		}
		if w[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			return nil, err
		}
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	m := stealField.FindSubmatch(stat)
	if m == nil {
		return nil, fmt.Errorf("/proc/stat begins with %.60q", stat)
	}
	steal, err := strconv.ParseFloat(string(m[1]), 64)
	w["stolen from the machine"] = steal / 100 // USER_HZ
	return w, err
}

// metrics are the daemon's.
func (b *bench) metrics(ctx context.Context) (string, error) {
	reply, err := engine.NewAPI("tcp://"+b.daemon.HTTP, 1).Do(ctx, http.MethodGet, "/metrics", "", nil)
	if err == nil && reply.Status != http.StatusOK {
		err = fmt.Errorf("metrics: %d", reply.Status)
	}
	return string(reply.Body), err
}

// add adds what came from before to w, as a share of the time that passed and of so many turns.
func (w waited) add(before, after waited, passed time.Duration, turns int) {
	for what, s := range after {
		w[what] += (s - before[what]) / passed.Seconds() / float64(turns)
	}
}

// printWaits writes a table of what the neighbour waited for; what is less than 0.1 ms in a second is left out.
func printWaits(out io.Writer, rows []row) error {
	var text strings.Builder
	text.WriteString("\n### What the neighbour waited for, milliseconds in a second\n\n| flood | without | with | no container: with |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", r.flood, r.waits[0], r.waits[1], r.waits[2])
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (w waited) String() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(w)) {
		if w[what] >= 0.0001 {
			all = append(all, fmt.Sprintf("%s %.1f", what, 1000*w[what]))
		}
	}
	return strings.Join(all, ", ")
}
