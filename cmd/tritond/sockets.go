package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// splitHost takes a validated -H apart.
func splitHost(h string) (network, address string) {
	u, err := url.Parse(h)
	if err != nil || u.Scheme == "unix" {
		return "unix", u.Path
	}
	return "tcp", u.Host
}

// removeDeadSocket makes room at path, unless somebody answers there or it is no socket.
func removeDeadSocket(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("somebody listens on %s already", path)
	}
	return os.Remove(path)
}
