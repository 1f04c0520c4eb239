package telemetry

import "strconv"

//go:generate go run gen/main.go

// syscallOther is the number under which the probes count calls outside their table.
const syscallOther = 511

// SyscallName gives the name of a system call number; "other" for what the probes count together, and the number
// itself where the kernel's header at build time had no name for it.
func SyscallName(nr int) string {
	if nr == syscallOther {
		return "other"
	}
	if nr >= 0 && nr < len(syscallNames) && syscallNames[nr] != "" {
		return syscallNames[nr]
	}
	return strconv.Itoa(nr)
}
