//go:build !cgo || !seccomp

package filter

import (
	"errors"

	"github.com/opencontainers/runc/libcontainer/configs"
)

// Compile refuses every configuration: this program was built without libseccomp. nil, for none, is compiled.
func Compile(config *configs.Seccomp) (Program, error) {
	if config == nil {
		return Program{}, nil
	}
	return Program{}, errors.New("seccomp: built without support")
}
