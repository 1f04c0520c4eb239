// Command triton-backtrace is the process in which the stacks of a crashed process are read; tritond starts it, and it is of
// no use by itself.
package main

import (
	"fmt"
	"os"

	"github.com/tritond/triton/pkg/backtrace/jail"
)

func main() {
	if err := jail.Child(); err != nil {
		fmt.Fprintln(os.Stderr, "triton-backtrace:", err)
		os.Exit(1)
	}
}
