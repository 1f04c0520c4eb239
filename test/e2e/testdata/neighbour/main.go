// Burns its processor in one function.
package main

var sink int

//go:noinline
func neighbourBurns() {
	for i := range 1 << 20 {
		sink += i
	}
}

func main() {
	for {
		neighbourBurns()
	}
}
