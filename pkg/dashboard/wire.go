package dashboard

import (
	"encoding/binary"
	"encoding/json"
	"math"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/tritond/triton/pkg/triton"
)

// Protocol is the version of the messages; Subprotocol names it in the websocket's handshake.
const (
	Protocol    = 1
	Subprotocol = "triton.v1"
)

// Request is what a client says: one JSON text frame of at most 4 KiB.
type Request struct {
	// Op is sub, unsub, ack, pause or resume.
	Op string `json:"op"`
	// ID is the client's number of a subscription.
	ID uint32 `json:"id,omitempty"`
	// Topic is containers, container, events or logs; the last three want a container's id in Key.
	Topic string `json:"topic,omitempty"`
	Key   string `json:"key,omitempty"`
	// Query is a filter; only the topic containers has one.
	Query string `json:"q,omitempty"`
	// Res is the time between two ticks in seconds: 0 (1), 1, 2, 5 or 10.
	Res int `json:"res,omitempty"`
	// From is the number of the last frame that the client has, of the daemon's run Boot.
	From uint64 `json:"from,omitempty"`
	Boot string `json:"boot,omitempty"`
	// N counts, with ack, the data frames received on this connection.
	N uint64 `json:"n,omitempty"`
}

// Reply is a JSON text frame from the server.
type Reply struct {
	// Op is hello, ok, err, end, dropped or level.
	Op string `json:"op"`
	// ID is the subscription that is answered.
	ID uint32 `json:"id,omitempty"`

	Hello *Hello `json:"hello,omitempty"`

	// Group is, with ok, what the data frames of the subscription carry.
	Group uint32 `json:"group,omitempty"`
	// Resumed: with ok, the frames after From follow. Otherwise a snapshot does.
	Resumed bool `json:"resumed,omitempty"`

	// Code is, with err, invalid, not_found, limit, unsupported or internal.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`

	// Level comes with level, whenever it changes by itself.
	Level *Level `json:"level,omitempty"`

	// Dropped is how many frames the client lost because it was too slow; a snapshot follows.
	Dropped uint64 `json:"dropped,omitempty"`
}

// Hello is the first message on a socket.
type Hello struct {
	Protocol int           `json:"protocol"`
	Version  string        `json:"version"`
	Boot     string        `json:"boot"`
	Node     string        `json:"node"`
	Now      int64         `json:"now"` // ms
	Tenant   triton.Tenant `json:"tenant"`
	Caller   string        `json:"caller"`
	Exec     bool          `json:"exec"`
	Operator bool          `json:"operator"`
	// Missing are the probes that do not run here: the page says what it has no numbers of.
	Missing []string `json:"missing,omitempty"`
	// Level is absent where nobody tells.
	Level *Level `json:"level,omitempty"`
}

// Level is how much is measured of containers of which nothing else is wanted.
type Level struct {
	Level string `json:"level"`
	// Why is the reason of the last change that nobody asked for, and AtMs its time; "" and 0: there was none.
	Why  string `json:"why,omitempty"`
	AtMs int64  `json:"at,omitempty"`
	// Missing is as in Hello, at this level.
	Missing []string `json:"missing,omitempty"`
}

// Kinds of data frames.
const (
	// KindSnapshot is a whole state with its history.
	KindSnapshot uint8 = 1
	// KindTick is what changed since the frame before.
	KindTick uint8 = 2
	// KindResync is a whole state without history, for a client that lost frames.
	KindResync uint8 = 3
)

// Head begins each data frame.
type Head struct {
	Group  uint32 `msgpack:"g"`
	Seq    uint64 `msgpack:"s"`
	TimeMs int64  `msgpack:"t"`
	Kind   uint8  `msgpack:"k"`
}

func (h *Head) head() *Head { return h }

// body is a data frame of any topic.
type body interface{ head() *Head }

// The columns of a table frame, in order.
const (
	colCPU       = iota // cores
	colThrottled        // seconds of throttling per second
	colMemory           // working set, bytes
	colWait50           // run-queue wait, seconds; NaN: nothing waited
	colWait99
	colSyscalls // per second
	colErrors   // per second
	colPids
	tableCols
)

// TableFrame is a frame of the topic containers. Rows has a row number for each of N rows; each of Cols is N float32. All
// numbers are little endian. NaN is unknown. Snapshots list every row, ticks those that changed.
type TableFrame struct {
	Head
	N    int      `msgpack:"n"`
	Rows []byte   `msgpack:"r"` // uint16, or uint32 where a row number needs it
	Cols [][]byte `msgpack:"c"`
	// Meta describes rows that are new or changed; Gone lists rows that left. Gone comes first: a number may be given anew.
	Meta RowMetas `msgpack:"m,omitempty"`
	Gone []uint32 `msgpack:"x,omitempty"`
	// History is, in a snapshot, CPU of the last 60 ticks per row, oldest first: uint16 in 1/1000 core, 65535 unknown.
	History []byte `msgpack:"h,omitempty"`
}

// RowMetas go over the wire as the bytes of a JSON array: a browser's own parser reads a thousand rows in a tenth of the time
// that a msgpack decoder in JavaScript takes before it is compiled, which is when the first snapshot comes.
type RowMetas []RowMeta

// EncodeMsgpack implements msgpack.CustomEncoder.
func (m RowMetas) EncodeMsgpack(enc *msgpack.Encoder) error {
	text, err := json.Marshal([]RowMeta(m))
	if err != nil {
		return err
	}
	return enc.EncodeBytes(text)
}

// DecodeMsgpack implements msgpack.CustomDecoder.
func (m *RowMetas) DecodeMsgpack(dec *msgpack.Decoder) error {
	text, err := dec.DecodeBytes()
	if err != nil {
		return err
	}
	return json.Unmarshal(text, (*[]RowMeta)(m))
}

// RowMeta is what is fixed of a row, or changes rarely.
type RowMeta struct {
	Row       uint32  `json:"r" msgpack:"r"`
	ID        string  `json:"id" msgpack:"id"`
	Name      string  `json:"name" msgpack:"name"`
	Image     string  `json:"image" msgpack:"image"`
	Status    string  `json:"status" msgpack:"status"`
	Restarts  int     `json:"restarts" msgpack:"restarts"`
	ExitCode  int     `json:"exit" msgpack:"exit"`
	OOM       bool    `json:"oom" msgpack:"oom"`
	StartedMs int64   `json:"started" msgpack:"started"` // 0: never
	EndedMs   int64   `json:"ended" msgpack:"ended"`     // 0: runs, or never ran
	CPULimit  float64 `json:"cpus" msgpack:"cpus"`       // cores; 0: none
	MemLimit  int64   `json:"mem" msgpack:"mem"`         // bytes; 0: none
	// Level is how much is measured of it, as of the last sample: detail, sampled, counters or off; "": not known yet.
	Level  string            `json:"level,omitempty" msgpack:"level,omitempty"`
	Labels map[string]string `json:"labels,omitempty" msgpack:"labels,omitempty"`
}

// The scalars of a container frame are the table's columns and, after them, these.
const (
	valExecs   = tableCols + iota // per second
	valForks                      // per second
	valDropped                    // observations lost, per second
	containerVals
)

// ContainerFrame is a frame of the topic container.
type ContainerFrame struct {
	Head
	// Meta is set in snapshots and when it changed.
	Meta *ContainerMeta `msgpack:"m,omitempty"`
	// Columns are seconds of the time axis, oldest first: the history in a snapshot, one or none in a tick.
	Columns []HeatColumn `msgpack:"h"`
	// Calls is the table of system calls over the last few seconds.
	Calls *CallTable `msgpack:"y,omitempty"`
	// Removed: the container is gone, no frame follows.
	Removed bool `msgpack:"gone,omitempty"`
}

// ContainerMeta is a row's and more.
type ContainerMeta struct {
	RowMeta
	Command  string `msgpack:"cmd"`
	ImageID  string `msgpack:"imageID"`
	Address  string `msgpack:"address"`
	Pid      int    `msgpack:"pid"`
	Created  int64  `msgpack:"created"` // ms
	TTY      bool   `msgpack:"tty"`
	LogsRead bool   `msgpack:"logs"` // its log can be read
}

// HeatColumn is one second of a container.
type HeatColumn struct {
	TimeMs int64  `msgpack:"t"`
	Vals   []byte `msgpack:"v"` // float32 each, see the constants
	Calls  Heat   `msgpack:"a"` // durations of system calls
	Waits  Heat   `msgpack:"q"` // waits for a CPU
	// Estimated: Calls and what counts them in Vals are estimates.
	Estimated bool `msgpack:"e,omitempty"`
}

// Heat is the part of a histogram that is not empty: Counts is uint32 each, the first of native bucket First at Schema.
type Heat struct {
	Schema int32  `msgpack:"z"`
	First  int32  `msgpack:"f"`
	Counts []byte `msgpack:"c"`
}

// CallTable has a row per system call, by number; see TableFrame for the form of columns.
type CallTable struct {
	// Seconds is the time that rates and quantiles are taken over.
	Seconds float64 `msgpack:"w"`
	// Estimated: rates and quantiles are estimates. Guessed is the share of all the time in which calls were not counted, so that the
	// totals are. Off is the share by which their sum may be off, in all but 5 of 100 cases; 0: not known.
	Estimated bool    `msgpack:"g,omitempty"`
	Guessed   float64 `msgpack:"u,omitempty"`
	Off       float64 `msgpack:"o,omitempty"`
	Nr        []byte  `msgpack:"n"` // uint16
	Rate      []byte  `msgpack:"r"` // float32 calls per second
	Errors    []byte  `msgpack:"e"` // float32 per second
	P50       []byte  `msgpack:"p50"`
	P99       []byte  `msgpack:"p99"`   // float32 seconds, upper bound of the bucket; NaN: none returned
	Total     []byte  `msgpack:"total"` // float64 calls since the watch began
	// Names has, by number, those that no frame before named; a snapshot names all.
	Names map[string]string `msgpack:"names,omitempty"`
}

// EventFrame is a frame of the topic events: new ones in a tick, the last ones in a snapshot.
type EventFrame struct {
	Head
	Events []EventRow `msgpack:"e"`
	// Lost counts events that the journal had no more when they were read.
	Lost uint64 `msgpack:"lost,omitempty"`
}

// EventRow is one event of a container.
type EventRow struct {
	TimeMs int64             `msgpack:"t"`
	Action string            `msgpack:"a"`
	Attrs  map[string]string `msgpack:"x,omitempty"`
}

// LogFrame is a frame of the topic logs: new lines in a tick, the last ones in a snapshot.
type LogFrame struct {
	Head
	Lines []LogRow `msgpack:"l"`
	// Skipped counts lines that came faster than they are shown.
	Skipped uint64 `msgpack:"lost,omitempty"`
	// Ended: the container does not run; more may come after a restart.
	Ended bool `msgpack:"end,omitempty"`
}

// LogRow is one line without its newline.
type LogRow struct {
	TimeMs int64  `msgpack:"t"`
	Err    bool   `msgpack:"e,omitempty"` // of stderr
	Text   string `msgpack:"l"`
	Cut    bool   `msgpack:"x,omitempty"` // longer than shown
}

// packFloats gives float32 little endian.
func packFloats(vals []float32) []byte {
	out := make([]byte, 0, 4*len(vals))
	for _, v := range vals {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// packRows gives row numbers as uint16 where they fit.
func packRows(rows []uint32) []byte {
	wide := false
	for _, r := range rows {
		wide = wide || r > math.MaxUint16
	}
	out := make([]byte, 0, 4*len(rows))
	for _, r := range rows {
		if wide {
			out = binary.LittleEndian.AppendUint32(out, r)
		} else {
			out = binary.LittleEndian.AppendUint16(out, uint16(r))
		}
	}
	return out
}

// packHeat keeps what is not empty. Counts beyond uint32 stay at its limit.
func packHeat(h triton.Histogram) Heat {
	h = h.Trim()
	out := Heat{Schema: h.Schema, First: h.First, Counts: make([]byte, 0, 4*len(h.Counts))}
	for _, n := range h.Counts {
		out.Counts = binary.LittleEndian.AppendUint32(out.Counts, uint32(min(n, math.MaxUint32)))
	}
	return out
}
