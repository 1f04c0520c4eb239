package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// claim is what the daemon writes into a run directory: enough for the next daemon to find the shim, or to do without.
type claim struct {
	Key        triton.ContainerKey `json:"key"`
	Run        int                 `json:"run"`
	Shim       string              `json:"shim"` // id; names its socket
	ShimPid    int                 `json:"shimPid"`
	CgroupPath string              `json:"cgroupPath"`
	CgroupID   uint64              `json:"cgroupID"`
	ExitDir    string              `json:"exitDir"`
	// Pid and StartTime name the first process; zero until create answered.
	Pid       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"startTime,omitempty"`
}

// Files in a run directory. The shim writes the last two: its create request, and what its successor needs to know.
const (
	claimFile  = "claim.json"
	createFile = "create.json"
	memoryFile = "shim.json"
)

// exitFile is the record of the first process's end, in the data directory of its container.
const exitFile = "exit.json"

// write replaces the claim at once: a reader sees the old one or the new one.
func (c claim) write(runDir string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write claim of %s: %w", c.Key, err)
	}
	path := filepath.Join(runDir, claimFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write claim of %s: %w", c.Key, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write claim of %s: %w", c.Key, err)
	}
	return nil
}

// readClaim wraps fs.ErrNotExist when there is no run directory, or none with a claim.
func readClaim(runDir string) (claim, error) {
	var c claim
	err := readJSON(filepath.Join(runDir, claimFile), &c)
	if err == nil && (!triton.ValidID(c.Key.ID) || c.Key.Tenant.Validate() != nil || c.Key.ID != filepath.Base(runDir)) {
		err = fmt.Errorf("claim in %s is for %q", runDir, c.Key)
	}
	return c, err
}

// maxJSON bounds the files read here: they are small, and a corrupt one must not exhaust memory. A create request holds
// the OCI configuration.
const maxJSON = 8 << 20

func readJSON(path string, v any) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Size() > maxJSON {
		return fmt.Errorf("%s: %d bytes are too many", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readCreate returns the request a run was created by.
func readCreate(runDir string) (shim.CreateRequest, error) {
	var req shim.CreateRequest
	err := readJSON(filepath.Join(runDir, createFile), &req)
	return req, err
}

// firstProcess names the first process of a run whose shim died: by the claim, or by what the shim wrote before create
// answered.
func firstProcess(c claim, runDir string) (pid int, start uint64) {
	if c.Pid != 0 {
		return c.Pid, c.StartTime
	}
	var m struct {
		Pid       int    `json:"pid"`
		StartTime uint64 `json:"startTime"`
	}
	if readJSON(filepath.Join(runDir, memoryFile), &m) == nil && m.Pid != 0 {
		return m.Pid, m.StartTime
	}
	// libcontainer's own record: written before the shim's.
	var s struct {
		Pid       int    `json:"init_process_pid"`
		StartTime uint64 `json:"init_process_start"`
	}
	if readJSON(filepath.Join(runDir, c.Key.ID, "state.json"), &s) == nil {
		return s.Pid, s.StartTime
	}
	return 0, 0
}

// readExit returns the record of a run's end; ok is false where there is none of this run (0: of any).
func readExit(exitDir string, run int) (rec triton.ExitRecord, ok bool, err error) {
	err = readJSON(filepath.Join(exitDir, exitFile), &rec)
	if errors.Is(err, fs.ErrNotExist) {
		return triton.ExitRecord{}, false, nil
	}
	if err != nil {
		return triton.ExitRecord{}, false, fmt.Errorf("exit record: %w", err)
	}
	return rec, run == 0 || rec.Run == run, nil
}

// lives reports whether the process that started at start (field 22 of /proc/PID/stat) still exists; a zombie counts.
func lives(pid int, start uint64) bool {
	if pid <= 0 {
		return false
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	// The name in field 2 may hold anything, brackets included: fields count from its last bracket.
	i := strings.LastIndexByte(string(b), ')')
	fields := strings.Fields(string(b[i+1:]))
	const startField = 22 - 3 // fields[0] is field 3
	if len(fields) <= startField {
		return false
	}
	got, err := strconv.ParseUint(fields[startField], 10, 64)
	return err == nil && got == start
}
