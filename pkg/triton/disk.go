package triton

// Disk is what a block device did for a container in one direction. Counters only grow. Requests are what reached the device: what
// the page cache answered is not among them, and what the kernel writes back later is charged as its cgroup version does.
type Disk struct {
	Major, Minor uint32
	Name         string // as in /dev; "MAJOR:MINOR" where the device is gone
	Write        bool
	// Durations are of whole requests, from their making to the end of their last part; schema 2.
	Durations Histogram
	Untimed   uint64 // requests whose beginning the kernel did not note: the device keeps no statistics
	Bytes     uint64
}

// Requests is the number of requests, timed or not.
func (d Disk) Requests() uint64 { return d.Durations.Count() + d.Untimed }

// Operation is read or write.
func (d Disk) Operation() string {
	if d.Write {
		return "write"
	}
	return "read"
}
