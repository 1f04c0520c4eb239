package triton

import "time"

// WaitReason is what a task waited for while it had no CPU.
type WaitReason uint8

// Reasons, in the order of enum off_cpu_reason in bpf/reasons.h.
const (
	WaitDisk    WaitReason = iota // a device, or a call about a file that waits for other things of it
	WaitNetwork                   // a socket, Unix ones too
	WaitLock                      // futex, flock, a record lock, a semaphore
	WaitSleep                     // a time
	WaitPoll                      // the first of several events: poll, epoll, io_uring, an eventfd
	WaitPipe                      // a pipe or a message queue
	WaitFault                     // a page
	WaitChild                     // a child's end, or its execve
	WaitOther
	WaitReasons // how many there are
)

var waitNames = [WaitReasons]string{"disk", "network", "lock", "sleep", "poll", "pipe", "fault", "child", "other"}

// String is the name by which metrics and the client know the reason.
func (r WaitReason) String() string {
	if r >= WaitReasons {
		return "unknown"
	}
	return waitNames[r]
}

// Waits is for how long tasks waited for anything but a CPU, added up over tasks, by reason. A wait is in it once it
// has ended.
type Waits [WaitReasons]time.Duration
