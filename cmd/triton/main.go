// Command triton shows what docker has no verb for.
package main

import "os"

func main() { os.Exit(run(os.Args[1:])) }
