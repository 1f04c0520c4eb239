// Command gopanic panics, with as many goroutines that wait as its argument says, or four.
package main

import (
	"os"
	"strconv"
	"sync"
)

type list struct {
	next  *list
	value int
}

//go:noinline
func walk(l *list, depth int) int {
	if depth > 0 {
		return walk(l, depth-1) + depth
	}
	return l.next.value
}

func main() {
	waiting := 4
	if len(os.Args) > 1 {
		n, err := strconv.Atoi(os.Args[1])
		if err != nil {
			os.Exit(2)
		}
		waiting = n
	}
	var ready sync.WaitGroup
	for range waiting {
		ready.Add(1)
		go func() {
			ready.Done()
			select {}
		}()
	}
	ready.Wait()
	os.Exit(walk(&list{}, 3))
}
