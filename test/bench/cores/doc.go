// Command cores measures what a crash of a large process costs: how soon its mini core is on disk and it is gone, how long
// its memory takes beside the kernel's own stream, and how large the daemon becomes.
package main
