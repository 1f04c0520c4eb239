package coredump

import (
	"bytes"
	"fmt"
	"strconv"
)

// environment returns where the text of the process's environment is: fields 50 and 51 of /proc/PID/stat.
func (d *procDir) environment() (Run, error) {
	b, err := d.Read("stat")
	if err != nil {
		return Run{}, err
	}
	// The second field is the program's name in parentheses and may hold anything: fields are counted from its end.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const envStart = 50 - 3
	if len(fields) < envStart+2 {
		return Run{}, fmt.Errorf("stat of the crashed process has %d fields", len(fields))
	}
	from, err1 := strconv.ParseUint(string(fields[envStart]), 10, 64)
	to, err2 := strconv.ParseUint(string(fields[envStart+1]), 10, 64)
	if err1 != nil || err2 != nil || to < from {
		return Run{}, fmt.Errorf("stat of the crashed process: environment at %q", fields[envStart])
	}
	return Run{from, to}, nil
}
