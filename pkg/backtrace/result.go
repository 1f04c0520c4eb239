package backtrace

// Version is that of the form of a Result. A stored one of another version is made anew.
const Version = 3

// Result is what the stacks of a process say.
type Result struct {
	Version int      `json:"version"`
	Threads []Thread `json:"threads"` // the one that crashed first
	// Goroutines are those of Go that no thread ran.
	Goroutines []Goroutine `json:"goroutines,omitempty"`
	// Names are what lies at each of Process.PCs, at most 65,536: the function and those that it was put into, innermost first.
	Names [][]Frame `json:"names,omitempty"`
	// Modules are the files and the vdso that frames lie in.
	Modules   []Module  `json:"modules"`
	Signature Signature `json:"signature"`
	// Missing says what could not be read or made sense of, and why.
	Missing []string `json:"missing,omitempty"`
}

// Thread is the stack of one.
type Thread struct {
	TID    int     `json:"tid"` // in the container's namespace
	Comm   string  `json:"comm,omitempty"`
	Frames []Frame `json:"frames"` // innermost first
	// Cut says why there may be more frames; empty: the last one is the outermost.
	Cut string `json:"cut,omitempty"`
	// Python are the calls that CPython was in for the thread, innermost first.
	Python []Frame `json:"python,omitempty"`
}

// Frame is a call that has not returned, or a function that the compiler put into its caller's body.
type Frame struct {
	PC   uint64 `json:"pc"`
	Func string `json:"func,omitempty"` // without parameters; empty: not known
	File string `json:"file,omitempty"` // of the source
	Line int    `json:"line,omitempty"`
	// Inline frames share the pc of the next one, into which they were put.
	Inline bool `json:"inline,omitempty"`
	// Module is an index of Result.Modules, -1: none.
	Module int `json:"module"`
	// Offset is the pc in the module's own addresses: the same wherever it was loaded.
	Offset uint64 `json:"offset,omitempty"`
	Kind   Kind   `json:"kind,omitempty"`
	By     By     `json:"by,omitempty"` // how its caller was found; empty: it has none
}

// Kind is what is special of a frame.
type Kind string

// The kinds of frames.
const (
	KindSignal Kind = "signal" // a signal's return trampoline: the next frame was interrupted, it made no call
	KindJIT    Kind = "jit"    // code that the program made while it ran
	KindPython Kind = "python" // a function that an interpreter runs: it has no program counter
)

// By is how the caller of a frame was found.
type By string

// The ways to a caller, from the surest to the least sure.
const (
	BySignal  By = "signal"  // the registers that the kernel saved
	ByGo      By = "go"      // Go's table of stack sizes
	ByCFI     By = "cfi"     // call frame information
	ByReturn  By = "return"  // a call into nowhere: the return address on top of the stack
	ByPointer By = "pointer" // the frame pointer
)

// Module is a file that is mapped, or the vdso.
type Module struct {
	Path    string `json:"path"`
	BuildID string `json:"buildID,omitempty"` // hex
	// Symbols is where its names come from: dwarf, symtab, debugdata, pclntab, dynsym, or empty for none.
	Symbols string `json:"symbols,omitempty"`
}

// Signature is what makes two crashes the same.
type Signature struct {
	// Exact is of the signal and the places in the modules of the top frames: the same only for the same build.
	Exact string `json:"exact"`
	// Fuzzy is of the signal and the names of the top functions: the same over builds. Of a crash without names it is Exact.
	Fuzzy string `json:"fuzzy"`
	// Frames are what Fuzzy is made of, innermost first.
	Frames []string `json:"frames"`
}
