// Command gopanic panics, with goroutines that wait.
package main

import (
	"os"
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
	var ready sync.WaitGroup
	for range 4 {
		ready.Add(1)
		go func() {
			ready.Done()
			select {}
		}()
	}
	ready.Wait()
	os.Exit(walk(&list{}, 3))
}
