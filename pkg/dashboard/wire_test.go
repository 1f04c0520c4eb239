package dashboard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tritond/triton/pkg/telemetry"
	"github.com/tritond/triton/pkg/triton"
)

var update = flag.Bool("update", false, "write the golden messages")

func sampleMeta(row uint32, name string) RowMeta {
	return RowMeta{
		Row: row, ID: "0f" + name, Name: name, Image: "registry/app:2", Status: "running", Restarts: 2, ExitCode: 137, OOM: true,
		StartedMs: 1700000000123, CPULimit: 1.5, MemLimit: 64 << 20, Level: "sampled", Labels: map[string]string{"team": "edge", "a": "ä<b>"},
	}
}

// goldenFrames has one frame of each topic and kind, with every field set somewhere.
func goldenFrames() map[string]body {
	hist := func(first int32, counts ...uint64) triton.Histogram {
		return triton.Histogram{Schema: 2, First: first, Counts: counts}
	}
	column := HeatColumn{
		TimeMs: 1700000001000, Vals: packFloats([]float32{0.5, 0, 1 << 20, nan32, 0.25, 1000, 3, 2, 0, 1, 0}),
		Calls: packHeat(hist(-96, 0, 0, 7, 0, 1<<40, 0)), Waits: packHeat(hist(-96)), Estimated: true,
	}
	calls := callsBetween(
		&telemetry.Sample{Time: time.Unix(100, 0), PerSyscall: []telemetry.SyscallSample{{Nr: 0, Count: 10, Errors: 1, Durations: triton.Histogram{First: -24, Counts: []uint64{0, 10, 0}}}}},
		&telemetry.Sample{Time: time.Unix(105, 0), PerSyscall: []telemetry.SyscallSample{
			{Nr: 0, Count: 60, Errors: 6, Durations: triton.Histogram{First: -24, Counts: []uint64{0, 59, 1}}}, {Nr: 231, Count: 1},
		}})
	calls.Estimated, calls.Guessed, calls.Off = true, 0.75, 0.125
	calls.Names = map[string]string{"0": "read", "231": "exit_group"}
	table := &TableFrame{Meta: RowMetas{sampleMeta(0, "web"), sampleMeta(70000, "db")}, History: []byte{1, 0, 255, 255}}
	rows := map[uint32]*row{0: {vals: [tableCols]float32{0.5, 0.25, 1 << 20, nan32, 0.004, 12345, 0.5, 7}}, 70000: {}}
	table.set([]uint32{0, 70000}, func(n uint32) *row { return rows[n] })
	tick := &TableFrame{Gone: []uint32{70000}}
	tick.set([]uint32{0}, func(n uint32) *row { return rows[n] })
	return map[string]body{
		"table-snapshot": table,
		"table-tick":     tick,
		"container-snapshot": &ContainerFrame{
			Meta:    &ContainerMeta{RowMeta: sampleMeta(0, "web"), Command: "sh -c 'sleep 1'", ImageID: "sha256:00", Address: "10.1.0.2/16", Pid: 42, Created: 1700000000000, TTY: true, LogsRead: true},
			Columns: []HeatColumn{column}, Calls: calls,
		},
		"container-removed": &ContainerFrame{Removed: true},
		"events":            &EventFrame{Events: []EventRow{{TimeMs: 1700000000001, Action: "die", Attrs: map[string]string{"exitCode": "3"}}}, Lost: 4},
		"logs":              &LogFrame{Lines: []LogRow{{TimeMs: 1700000000002, Err: true, Text: "<b>\x1b[31mred", Cut: true}, {TimeMs: 1700000000003, Text: ""}}, Skipped: 9, Ended: true},
	}
}

// TestWireMatchesGoldenMessages: the page's tests decode the same bytes to the same values.
func TestWireMatchesGoldenMessages(t *testing.T) {
	for name, b := range goldenFrames() {
		*b.head() = Head{Group: 7, Seq: 1234567890123, TimeMs: 1700000002000, Kind: KindTick}
		var buf bytes.Buffer
		enc := msgpack.NewEncoder(&buf)
		enc.UseCompactInts(true)
		enc.SetSortMapKeys(true)
		if err := enc.Encode(b); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".msgpack", buf.Bytes())
		text, err := json.MarshalIndent(plain(t, buf.Bytes()), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", append(text, '\n'))
	}
	for name, r := range map[string]Reply{
		"hello":   {Op: "hello", Hello: &Hello{Protocol: 1, Version: "v", Boot: "b", Node: "n", Now: 1, Tenant: "t", Caller: "me", Exec: true, Operator: true, Missing: []string{"block_rq_issue"}, Level: &Level{Level: "detail"}}},
		"level":   {Op: "level", Level: &Level{Level: "sampled", Why: "detail costs 4 %, more than the budget of 3 %", AtMs: 1700000000004, Missing: []string{"sys_exit"}}},
		"ok":      {Op: "ok", ID: 3, Group: 7, Resumed: true},
		"err":     {Op: "err", ID: 3, Code: "not_found", Message: "no such container: x"},
		"dropped": {Op: "dropped", ID: 3, Dropped: 12},
	} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "reply-"+name+".json", append(text, '\n'))
	}
}

// plain decodes a frame without knowing its type. Bytes become their hexadecimal digits behind 0x.
func plain(t *testing.T, data []byte) any {
	t.Helper()
	dec := msgpack.NewDecoder(bytes.NewReader(data))
	dec.SetMapDecoder(func(d *msgpack.Decoder) (any, error) {
		m, err := d.DecodeUntypedMap()
		out := map[string]any{}
		for k, v := range m {
			key, err := json.Marshal(k)
			if err != nil {
				return nil, err
			}
			out[string(bytes.Trim(key, `"`))] = readable(v)
		}
		return out, err
	})
	v, err := dec.DecodeInterface()
	if err != nil {
		t.Fatal(err)
	}
	return readable(v)
}

func readable(v any) any {
	switch v := v.(type) {
	case []byte:
		const digits = "0123456789abcdef"
		out := []byte("0x")
		for _, b := range v {
			out = append(out, digits[b>>4], digits[b&15])
		}
		return string(out)
	case []any:
		for i := range v {
			v[i] = readable(v[i])
		}
	}
	return v
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "wire", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestPackHeatKeepsCountsAndTheirPlace(t *testing.T) {
	h := packHeat(triton.Histogram{Schema: 2, First: -96, Counts: []uint64{0, 5, 0, 1 << 40, 0}})
	want := Heat{Schema: 2, First: -95, Counts: []byte{5, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255}}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTableFrameStaysSmall: a tick of a thousand rows that all changed.
func TestTableFrameStaysSmall(t *testing.T) {
	f := &TableFrame{Head: Head{Group: 1, Seq: 1 << 20, TimeMs: 1 << 40, Kind: KindTick}}
	rows := make([]uint32, 1000)
	for i := range rows {
		rows[i] = uint32(i)
	}
	f.set(rows, func(n uint32) *row { return &row{vals: [tableCols]float32{float32(n) / 3}} })
	data, err := msgpack.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 34<<10 {
		t.Errorf("%d bytes, want at most %d", len(data), 34<<10)
	}
	if got := math.Float32frombits(binary.LittleEndian.Uint32(f.Cols[0][4*999:])); got != 333 {
		t.Errorf("last row's CPU is %v, want 333", got)
	}
}
