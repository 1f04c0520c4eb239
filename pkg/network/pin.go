package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/triton"
)

// Names of the pins of a pair, in the pair's own folder.
const (
	pinUser = "user"
	pinNet  = "net"
)

// pins is the folder that holds the pinned namespaces, one folder for each slot. It is a private mount of its own: a
// pin propagates into no other mount namespace, where it would keep a namespace alive.
type pins struct {
	dir string
}

// openPins makes the folder, or takes over the one that a killed daemon left.
func openPins(dir string) (pins, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return pins{}, fmt.Errorf("make the folder of namespaces: %w", err)
	}
	mounted, err := mountinfo.Mounted(dir)
	if err != nil {
		return pins{}, fmt.Errorf("look for a mount at %s: %w", dir, err)
	}
	if !mounted {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return pins{}, fmt.Errorf("bind %s to itself: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return pins{}, fmt.Errorf("make the mount at %s private: %w", dir, err)
	}
	return pins{dir: dir}, nil
}

// path is where a slot's namespace of the given name is pinned.
func (p pins) path(slot int, name string) string {
	return filepath.Join(p.dir, strconv.Itoa(slot), name)
}

// slots lists the slots that have a folder, pinned or not.
func (p pins) slots() ([]int, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // purged
	}
	if err != nil {
		return nil, fmt.Errorf("list pinned namespaces: %w", err)
	}
	var all []int
	for _, e := range entries {
		if slot, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, slot)
		}
	}
	return all, nil
}

// moved is the path that a pin has in p's folder: it may have been stored when the folder was another one.
func (p pins) moved(path string) string {
	slot, name := filepath.Split(path)
	return filepath.Join(p.dir, filepath.Base(slot), name)
}

// pinned reports whether the slot has a network namespace that the user namespace pinned at userNS owns; "": any.
func (p pins) pinned(slot int, userNS string) bool {
	ns := p.path(slot, pinNet)
	return isNamespace(ns) && (userNS == "" || isNamespace(userNS) && owns(userNS, ns))
}

// owns reports whether the namespace at path ns belongs to the user namespace at path userNS (NS_GET_USERNS, ioctl_ns(2)).
func owns(userNS, ns string) bool {
	f, err := os.Open(ns)
	if err != nil {
		return false
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var owner, want unix.Stat_t
	return unix.Fstat(fd, &owner) == nil && unix.Stat(userNS, &want) == nil && owner.Ino == want.Ino && owner.Dev == want.Dev
}

func isNamespace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// makePair makes a user namespace of the given ids and a network namespace that it owns (only so may root inside mount
// sysfs), and pins both.
//
// The process that makes them never runs a program of its own: it stops at its execve, being traced, is made to call
// unshare(2), is looked at and killed. It is not cloned into new namespaces: for a new user namespace Go forks without
// CLONE_VM, and every page that the daemon then writes to is copied, some 30 ms of a processor for each pair.
func (p pins) makePair(slot int, ids triton.IDRange) error {
	return p.byStopped(slot, nil, func(pid int) error {
		if err := callStopped(pid, unix.SYS_UNSHARE, unix.CLONE_NEWUSER|unix.CLONE_NEWNET, 0); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		ranges := fmt.Appendf(nil, "0 %d %d\n", ids.Base, ids.Size)
		for _, name := range []string{"uid_map", "gid_map"} {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), ranges, 0); err != nil {
				return fmt.Errorf("map ids: %w", err)
			}
		}
		return errors.Join(
			p.pin(slot, pinUser, fmt.Sprintf("/proc/%d/ns/user", pid)),
			p.pin(slot, pinNet, fmt.Sprintf("/proc/%d/ns/net", pid)))
	})
}

// makeNetNSIn pins a new network namespace that the user namespace pinned at userNS owns. Only a process without threads
// can enter that, so the daemon cannot. An error is of kind FailedPrecondition where userNS is gone.
func (p pins) makeNetNSIn(slot int, userNS string) error {
	if !isNamespace(userNS) {
		return fmt.Errorf("the user namespace that slot %d shares is gone: %w", slot, errdefs.ErrFailedPrecondition)
	}
	user, err := os.Open(userNS)
	if err != nil {
		return fmt.Errorf("open the user namespace that slot %d shares: %w", slot, err)
	}
	defer user.Close()
	return p.byStopped(slot, []*os.File{user}, func(pid int) error {
		if err := callStopped(pid, unix.SYS_SETNS, 0, unix.CLONE_NEWUSER); err != nil {
			return fmt.Errorf("enter %s: %w", userNS, err)
		}
		if err := callStopped(pid, unix.SYS_UNSHARE, unix.CLONE_NEWNET, 0); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return p.pin(slot, pinNet, fmt.Sprintf("/proc/%d/ns/net", pid))
	})
}

// byStopped calls f with a traced process that stands before its first instruction and has files as its descriptors from
// 0 on, and ends the process. The tracer is a thread, so the whole takes place on one. After an error nothing is pinned.
func (p pins) byStopped(slot int, files []*os.File, f func(pid int) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	proc, err := os.StartProcess("/proc/self/exe", []string{"triton-namespaces"}, &os.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{
		Ptrace:    true,
		Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return fmt.Errorf("make namespaces for slot %d: %w", slot, err)
	}
	// Until it is waited for below, the pid cannot be another process's.
	if err = awaitStop(proc.Pid); err == nil {
		err = f(proc.Pid)
	}
	if err = errors.Join(err, proc.Kill(), reap(proc.Pid)); err != nil {
		return errors.Join(fmt.Errorf("make namespaces for slot %d: %w", slot, err), p.remove(slot))
	}
	return nil
}

// awaitStop waits for a traced process to stand still.
func awaitStop(pid int) error {
	for {
		var ws unix.WaitStatus
		switch _, err := unix.Wait4(pid, &ws, unix.WALL, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the process that makes namespaces: %w", err)
		case ws.Stopped() && ws.StopSignal() == unix.SIGTRAP:
			return nil
		default:
			return fmt.Errorf("the process that makes namespaces did not stop as it should: wait status %#x", uint32(ws))
		}
	}
}

// reap waits for the end of a killed process that was traced. os.Process.Wait would take the stop at execve for it.
func reap(pid int) error {
	for {
		var ws unix.WaitStatus
		switch _, err := unix.Wait4(pid, &ws, unix.WALL, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the process that made namespaces: %w", err)
		case ws.Exited() || ws.Signaled():
			return nil
		}
	}
}

// makeNetNS pins a new network namespace that the host's user namespace owns.
func (p pins) makeNetNS(slot int) error {
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace for slot %d: %w", slot, err)
		}
		return p.pin(slot, pinNet, "/proc/thread-self/ns/net")
	})
	if err != nil {
		return errors.Join(err, p.remove(slot))
	}
	return nil
}

// pin binds a namespace file to the slot's folder.
func (p pins) pin(slot int, name, ns string) error {
	path := p.path(slot, name)
	if err := os.Mkdir(filepath.Dir(path), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder of slot %d: %w", slot, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("make the pin of slot %d: %w", slot, err)
	}
	f.Close()
	if err := unix.Mount(ns, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin %s at %s: %w", ns, path, err)
	}
	return nil
}

// remove unpins a slot. The kernel then removes the network namespace and its veth pair in its own time, once no
// process is in it: deleting the link here would block for 30 ms.
func (p pins) remove(slot int) error {
	for _, name := range []string{pinNet, pinUser} {
		path := p.path(slot, name)
		// A killed daemon may have mounted twice; EINVAL says that nothing is mounted any more.
		err := unix.Unmount(path, unix.MNT_DETACH)
		for err == nil {
			err = unix.Unmount(path, unix.MNT_DETACH)
		}
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unpin %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the pin of slot %d: %w", slot, err)
		}
	}
	if err := os.Remove(filepath.Join(p.dir, strconv.Itoa(slot))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the folder of slot %d: %w", slot, err)
	}
	return nil
}

// purge removes all pins and the mount below them.
func (p pins) purge() error {
	all, err := p.slots()
	if err != nil {
		return err
	}
	for _, slot := range all {
		if err := p.remove(slot); err != nil {
			return err
		}
	}
	if err := unix.Unmount(p.dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", p.dir, err)
	}
	if err := os.Remove(p.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the folder of namespaces: %w", err)
	}
	return nil
}

// inNetNS runs f on a thread that is in the network namespace ns.
func inNetNS(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// onThread runs f on a thread that may change its network namespace. The thread goes back to the one it had and is used
// again, since a new one costs 0.2 ms; should that fail, the goroutine ends locked to it, and the thread ends too.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open the thread's network namespace: %w", err)
			return
		}
		defer home.Close()
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, fmt.Errorf("leave a network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}
