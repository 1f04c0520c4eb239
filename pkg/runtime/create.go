package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tritond/triton/pkg/shim"
	"github.com/tritond/triton/pkg/triton"
)

// Bundle is one run of a container, ready to be made.
type Bundle struct {
	Key        triton.ContainerKey
	Run        int
	Spec       *triton.Spec
	OCI        *specs.Spec
	Rootfs     shim.Rootfs
	Endpoint   triton.Endpoint // tells the ids of the user namespace that OCI names, where it is the container's own
	CgroupPath string
	CgroupID   uint64 // of its cgroup2 directory
	DataDir    string // exit records and the log go there
}

// Create makes a container up to the point where its program can be executed: a shim, namespaces, root file system and a
// first process that waits. The exit program knows the shim before there is a process. After an error nothing is left.
func (r *Runtime) Create(ctx context.Context, b Bundle) (*Task, error) {
	req, err := r.createRequest(b)
	if err != nil {
		return nil, err
	}
	p, err := r.claim(ctx)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", b.Key, err)
	}
	defer r.wake()
	t := &Task{r: r, key: b.Key, run: b.Run, shim: p, claim: claim{
		Key: b.Key, Run: b.Run, Shim: p.id, ShimPid: p.pid, CgroupPath: b.CgroupPath, CgroupID: b.CgroupID, ExitDir: b.DataDir,
	}}
	if err := t.create(ctx, req); err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", b.Key, kinds(err)), t.undo(context.WithoutCancel(ctx)))
	}
	return t, nil
}

// createRequest fills in what the shim needs beside the configuration. Namespaces and ids are those of the configuration.
func (r *Runtime) createRequest(b Bundle) (shim.CreateRequest, error) {
	req := shim.CreateRequest{
		Key: b.Key, Run: b.Run, CgroupPath: b.CgroupPath, Rootfs: b.Rootfs,
		RunDir: r.runDir(b.Key.ID), ExitDir: b.DataDir, Log: b.Spec.Log, Keeper: r.path(keeperSocket), ExitMap: r.cfg.ExitMap,
		Stdio: shim.Stdio{TTY: b.Spec.TTY, Stdin: b.Spec.OpenStdin, StdinOnce: b.Spec.StdinOnce, Size: b.Spec.ConsoleSize},
	}
	oci, linux := *b.OCI, *b.OCI.Linux
	for _, n := range linux.Namespaces {
		switch n.Type {
		case specs.UserNamespace:
			req.UserNS = n.Path
		case specs.NetworkNamespace:
			req.NetNS = n.Path
		}
	}
	if req.UserNS != "" && req.UserNS == b.Endpoint.UserNS {
		req.IDs = b.Endpoint.IDs
	} else if ids := linux.UIDMappings; req.UserNS != "" && len(ids) == 1 {
		req.IDs = triton.IDRange{Base: ids[0].HostID, Size: ids[0].Size}
		// The runtime library reads the map from the namespace and warns of a second source of the same truth.
		linux.UIDMappings, linux.GIDMappings = nil, nil
	}
	oci.Linux = &linux
	var err error
	if req.OCI, err = json.Marshal(&oci); err != nil {
		return shim.CreateRequest{}, fmt.Errorf("create %s: %w", b.Key, err)
	}
	if b.Spec.Log.Driver != triton.LogNone {
		req.LogPath = filepath.Join(b.DataDir, b.Key.ID+"-json.log")
	}
	return req, nil
}

// create runs the steps, in the order that a crash between any two of them can be undone from what is on disk.
func (t *Task) create(ctx context.Context, req shim.CreateRequest) error {
	if err := t.r.cfg.RegisterParent(t.shim.pid, t.claim.CgroupID); err != nil {
		return fmt.Errorf("register parent: %w", err)
	}
	if err := os.Mkdir(req.RunDir, 0o711); err != nil {
		return fmt.Errorf("run directory: %w", err) // of a run that was not deleted
	}
	t.ours = true
	if err := t.claim.write(req.RunDir); err != nil {
		return err
	}
	made, err := t.shim.client.Create(ctx, req)
	if err != nil {
		return err
	}
	t.pid, t.start = made.Pid, made.StartTime
	t.claim.Pid, t.claim.StartTime = made.Pid, made.StartTime
	return t.claim.write(req.RunDir)
}

// undo removes what a create that failed may have left. A shim that refused has cleaned up itself; one that died, or
// whose answer was not waited for, has not.
func (t *Task) undo(ctx context.Context) error {
	var errs []error
	if err := t.shim.client.Delete(ctx, true); err != nil && !isConflict(err) && !isGone(err) {
		errs = append(errs, err)
	}
	t.r.discard(t.shim)
	if t.ours {
		errs = append(errs, t.r.sweep(ctx, t.claim))
	}
	return errors.Join(append(errs, t.r.cfg.ForgetParent(t.shim.pid))...)
}

func isConflict(err error) bool {
	var se *shim.Error
	return errors.As(err, &se) && se.Kind == shim.KindConflict
}

// sockOf is the socket of the shim with an id; ids come from files, so nothing but hexadecimal digits is taken.
func (r *Runtime) sockOf(id string) string {
	if strings.Trim(id, "0123456789abcdef") != "" {
		id = "invalid"
	}
	return r.path(shimsDir, id+".sock")
}
