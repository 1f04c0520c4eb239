// Command triton-core is what the kernel starts for a crash where kernel.core_pattern is of the pipe form: it hands the core
// to the socket that it is named after, and ends.
package main

import (
	"fmt"
	"os"

	"github.com/tritond/triton/pkg/coredump/handover"
)

func main() {
	if err := run(os.Args); err != nil {
		// The kernel gives no stderr. Its log is where it tells of its own failures with core dumps.
		if log, lerr := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); lerr == nil {
			fmt.Fprintf(log, "<3>triton-core: a core is lost: %v", err)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	socket, ok := handover.SocketOf(args[0])
	if !ok {
		return fmt.Errorf("started as %s: only the kernel starts it, by a link named after a socket", args[0])
	}
	return handover.Send(socket, int(os.Stdin.Fd()), args[1:])
}
