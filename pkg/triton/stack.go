package triton

import "time"

// StackKind is what stacks are taken of.
type StackKind int

// The kinds of stacks.
const (
	// OnCPU: what tasks do, 99 times a second of each CPU that they have.
	OnCPU StackKind = iota
	// OffCPU: what tasks wait for, and for how long.
	OffCPU
)

// StackPeriod is between two looks at a CPU. 99 a second and not 100, so that the looks do not keep step with work that is
// done in time with the machine's clock.
const StackPeriod = time.Second / 99

// Stack is where tasks of a process were, and how often.
type Stack struct {
	Container ContainerKey
	PID       int // on the machine
	// Image changes with each program that the process executes: where the process's stack begins.
	Image uint64
	// User and Kernel are addresses, innermost first: the first is where it stood or, in the kernel, where its caller goes
	// on, the others are where calls return to.
	User, Kernel []uint64
	// Unread says that there is a stack in user space, but that it was not kept.
	Unread bool
	Count  uint64
	Time   time.Duration // off the CPU; of OnCPU: 0
}

// StackLoss is what stacks do not tell of a container.
type StackLoss struct {
	Counts uint64 // looks, or waits, that are in no stack
	Stacks uint64 // stacks that are counted, but found no room
	Broken uint64 // stacks that are counted, but whose memory could not be read
}

// Add adds o to l.
func (l *StackLoss) Add(o StackLoss) {
	l.Counts += o.Counts
	l.Stacks += o.Stacks
	l.Broken += o.Broken
}
