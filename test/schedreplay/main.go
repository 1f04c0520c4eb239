package main

import (
	"fmt"
	"os"
)

func main() {
	sets, err := loadSets(os.Args[1], nodeCores, nodeMemMiB)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, s := range sets {
		fmt.Println(s.name, s.images, s.steps, s.dropped)
	}
	explore(sets, os.Args[2:])
}
