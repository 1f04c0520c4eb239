package jsonlog

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher tells when a log may have changed: its file was written to, or another took its name.
type watcher struct {
	changed chan struct{} // one token for any number of changes
	file    *os.File
	done    chan struct{}
}

// newWatcher watches the folder, which outlives every file in it.
func newWatcher(path string) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch log: %w", err)
	}
	const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), events); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch log: %w", err)
	}
	w := &watcher{changed: make(chan struct{}, 1), file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{})}
	go w.run(filepath.Base(path))
	return w, nil
}

// run is the watcher's goroutine; close ends it.
func (w *watcher) run(name string) {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		if !concerns(buf[:n], name) {
			continue
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// concerns reports whether one of the events is about the file of that name, or about events that were lost.
func concerns(events []byte, name string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(events) {
			return true
		}
		got := unix.ByteSliceToString(events[unix.SizeofInotifyEvent:end])
		if got == name || e.Mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		events = events[end:]
	}
	return false
}

func (w *watcher) close() {
	w.file.Close()
	<-w.done
}
