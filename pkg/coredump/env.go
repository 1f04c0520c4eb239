package coredump

import (
	"fmt"

	"github.com/tritond/triton/pkg/procfs"
)

// environment returns where the text of the process's environment is.
func (d *procDir) environment() (Run, error) {
	b, err := d.Read("stat")
	if err != nil {
		return Run{}, err
	}
	from, to, ok := procfs.Environment(string(b))
	if !ok {
		return Run{}, fmt.Errorf("stat of the crashed process: %q", b)
	}
	return Run{from, to}, nil
}
