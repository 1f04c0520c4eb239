package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// Bounds of one ps: a machine of 32768 processes prints about 4 MB.
const (
	psBound  = 10 * time.Second
	psOutput = 16 << 20 // bytes
	// psComplaint is more than any message of ps: the first line is all that is shown.
	psComplaint = 16 << 10 // bytes
)

// TopContainer runs the machine's ps with the given options (empty: -ef) and keeps the lines of the container's processes.
// errdefs.ErrFailedPrecondition when it does not run.
func (n *Node) TopContainer(ctx context.Context, key triton.ContainerKey, options string) (triton.ProcessTable, error) {
	if err := checkPSOptions(options); err != nil {
		return triton.ProcessTable{}, err
	}
	c, _, err := n.needTask(key)
	if err != nil {
		return triton.ProcessTable{}, err
	}
	pids, err := n.cfg.Cgroups.Pids(n.cgroupPath(key))
	if err != nil {
		return triton.ProcessTable{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, psBound)
	defer cancel()
	args := strings.Split(first(options, "-ef"), " ")
	out, err := runPS(ctx, append(args, quickList(pids)))
	if err != nil { // some options (f) exclude -q
		if out, err = runPS(ctx, args); err != nil {
			return triton.ProcessTable{}, err
		}
	}
	table, err := parsePS(out, pids)
	if err == nil {
		n.publish(c.event("top", n.cfg.Now().UTC(), nil))
	}
	return table, err
}

// renamedPID finds columns of -o that would pass for the PID column.
var renamedPID = regexp.MustCompile(`\s+([^\s]*)=\s*(PID[^\s]*)`)

// checkPSOptions refuses options that would have another column taken for the process id.
func checkPSOptions(options string) error {
	for _, m := range renamedPID.FindAllStringSubmatch(" "+options, -1) {
		if m[1] != "pid" {
			return kindf(errdefs.ErrInvalidArgument, "specifying \"%s=%s\" is not allowed", m[1], m[2])
		}
	}
	return nil
}

func quickList(pids []int) string {
	words := make([]string, len(pids))
	for i, pid := range pids {
		words[i] = strconv.Itoa(pid)
	}
	return "-q" + strings.Join(words, ",")
}

// runPS returns what ps printed; the error is its first line of complaint.
func runPS(ctx context.Context, args []string) ([]byte, error) {
	var out, complaint bounded
	out.room, complaint.room = psOutput, psComplaint
	cmd := osexec.CommandContext(ctx, "ps", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		line, _, _ := bytes.Cut(complaint.kept, []byte{'\n'})
		var exit *osexec.ExitError
		if errors.As(err, &exit) && len(line) > 0 {
			return nil, fmt.Errorf("ps: %s", line)
		}
		return nil, fmt.Errorf("ps: %w", err)
	}
	return out.kept, nil
}

// bounded keeps output up to a size and refuses more.
//
// The buffer is no embedded one: its ReadFrom would go past the bound.
type bounded struct {
	kept []byte
	room int // bytes
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > b.room {
		return 0, fmt.Errorf("output of more than %d bytes", b.room)
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

// parsePS reads ps's table and keeps the rows of pids, with the rows of threads ("-") below them.
func parsePS(out []byte, pids []int) (triton.ProcessTable, error) {
	rows := strings.Split(string(out), "\n")
	t := triton.ProcessTable{Titles: fieldsASCII(rows[0]), Processes: [][]string{}}
	column := -1
	for i, title := range t.Titles {
		if title == "PID" {
			column = i
			break
		}
	}
	if column < 0 {
		return triton.ProcessTable{}, errors.New("Couldn't find PID field in ps output") //nolint:staticcheck // docker's words
	}
	ours := make(map[int]bool, len(pids))
	for _, pid := range pids {
		ours[pid] = true
	}
	within := false
	for _, row := range rows[1:] {
		words := fieldsASCII(row)
		if len(words) <= column {
			continue
		}
		if words[column] != "-" {
			pid, err := strconv.Atoi(words[column])
			if err != nil {
				return triton.ProcessTable{}, fmt.Errorf("Unexpected pid '%s': %w", words[column], err) //nolint:staticcheck // docker's words
			}
			within = ours[pid]
		}
		if within {
			t.Processes = append(t.Processes, cells(words, len(t.Titles)))
		}
	}
	return t, nil
}

// cells joins the words of the last column, which is a command line.
func cells(words []string, columns int) []string {
	if len(words) <= columns {
		return words
	}
	return append(words[:columns-1:columns-1], strings.Join(words[columns-1:], " "))
}

// fieldsASCII splits at ASCII white space only: other white space may be part of a command.
func fieldsASCII(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		switch r {
		case '\t', '\n', '\f', '\r', ' ':
			return true
		}
		return false
	})
}
