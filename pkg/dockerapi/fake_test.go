package dockerapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tritond/triton/pkg/triton"
)

// fakeBackend runs programs that are goroutines: true, cat, sleep, echo, exit N, stty (prints the terminal's size).
// Programs "missing" and "noexec" fail to start as runc reports it.
type fakeBackend struct {
	fakeRegistries
	mu         sync.Mutex
	containers map[triton.ContainerKey]*fakeContainer
	execs      map[triton.ExecKey]*fakeExec
	images     map[triton.Tenant][]triton.Image
	journal    []triton.Event
	changed    chan struct{} // closed and replaced at each change
	lists      int           // calls of ListContainers
	committed  triton.CommitRequest
	changes    uint64
	still      bool // nothing changes any more
	nets       fakeNetworks
	vols       []triton.VolumeInfo
	unpacked   triton.UnpackRequest
	loaded     []byte
	loadErr    error
}

type fakeContainer struct {
	c       triton.Container
	removed bool
	log     []triton.LogRecord
	proc    *fakeProcess
	exit    triton.ExitRecord
	exits   int
}

type fakeExec struct {
	e    triton.Exec
	proc *fakeProcess
}

func newFakeBackend() *fakeBackend {
	return &fakeBackend{
		containers: map[triton.ContainerKey]*fakeContainer{}, execs: map[triton.ExecKey]*fakeExec{}, changed: make(chan struct{}),
		images: map[triton.Tenant][]triton.Image{triton.DefaultTenant: {busyboxImage()}},
	}
}

func busyboxImage() triton.Image {
	return triton.Image{
		ID: "sha256:" + strings.Repeat("ab", 32), RepoTags: []string{"busybox:latest"}, RepoDigests: []string{"busybox@sha256:" + strings.Repeat("cd", 32)},
		Created: time.Unix(1700000000, 0), Size: 4 << 20, Architecture: "amd64", OS: "linux", Labels: map[string]string{"maker": "test"},
		Config:  triton.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}, Labels: map[string]string{"maker": "test"}},
		DiffIDs: []string{"sha256:" + strings.Repeat("ef", 32)},
	}
}

func (b *fakeBackend) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *fakeBackend) event(c *fakeContainer, action string) {
	b.journal = append(b.journal, triton.Event{
		Seq: uint64(len(b.journal) + 1), Time: time.Now(), Tenant: c.c.Key.Tenant, Type: triton.EventContainer, Action: action, ID: c.c.Key.ID,
		Attributes: map[string]string{"image": c.c.Spec.Image, "name": c.c.Name},
	})
	b.notify()
}

// until waits, with the lock held on entry and exit, for cond.
func (b *fakeBackend) until(ctx context.Context, cond func() bool) error {
	for !cond() {
		ch := b.changed
		b.mu.Unlock()
		select {
		case <-ch:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			return ctx.Err()
		}
	}
	return nil
}

func (b *fakeBackend) ResolveContainer(_ context.Context, tenant triton.Tenant, ref string) (triton.ContainerKey, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ref = strings.TrimPrefix(ref, "/")
	var found *triton.ContainerKey
	for key, c := range b.containers {
		if key.Tenant != tenant || c.removed {
			continue
		}
		if c.c.Name == ref {
			return key, nil // a name wins: "db" may begin an id as well
		}
		if strings.HasPrefix(key.ID, ref) {
			found = &key
		}
	}
	if found != nil {
		return *found, nil
	}
	return triton.ContainerKey{}, notFound("No such container: %s", ref)
}

func (b *fakeBackend) get(key triton.ContainerKey) (*fakeContainer, error) {
	c := b.containers[key]
	if c == nil || c.removed {
		return nil, notFound("No such container: %s", key.ID)
	}
	return c, nil
}

func (b *fakeBackend) CreateContainer(_ context.Context, tenant triton.Tenant, name string, spec triton.Spec) (triton.ContainerKey, []string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := triton.ContainerKey{Tenant: tenant, ID: triton.NewID()}
	if name == "" {
		name = "random_" + triton.ShortID(key.ID)
	}
	for _, c := range b.containers {
		if c.c.Name == name && !c.removed && c.c.Key.Tenant == tenant {
			return key, nil, fmt.Errorf("the name %q is in use by container %q: %w", "/"+name, c.c.Key.ID, errdefs.ErrAlreadyExists)
		}
	}
	c := &fakeContainer{c: triton.Container{Key: key, Name: name, Created: time.Now(), Spec: spec, State: triton.State{Status: triton.StatusCreated}}}
	c.c.DataDir = "/data/" + key.ID
	c.c.LogPath = c.c.DataDir + "/" + key.ID + "-json.log"
	b.containers[key] = c
	b.prepare(c)
	b.event(c, "create")
	return key, nil, nil
}

func (b *fakeBackend) prepare(c *fakeContainer) {
	c.proc = newFakeProcess(c.c.Spec.Argv(), c.c.Spec.TTY)
	c.proc.size = c.c.Spec.ConsoleSize
	c.proc.record = func(stream string, line []byte) {
		b.mu.Lock()
		defer b.mu.Unlock()
		c.log = append(c.log, triton.LogRecord{Stream: stream, Time: time.Now(), Line: bytes.Clone(line)})
		b.notify()
	}
}

func (b *fakeBackend) StartContainer(_ context.Context, key triton.ContainerKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	if c.c.State.Status == triton.StatusRunning {
		return ErrNotModified
	}
	if err := c.proc.runnable(); err != nil {
		c.c.State.Error = err.Error()
		c.exit = triton.ExitRecord{Code: 127}
		if c.c.Spec.AutoRemove {
			c.removed = true
			b.event(c, "destroy")
		}
		return err
	}
	if c.c.State.Run > 0 {
		b.prepare(c)
	}
	c.c.State = triton.State{Status: triton.StatusRunning, Run: c.c.State.Run + 1, Pid: 4242, StartedAt: time.Now()}
	c.c.Network = triton.Endpoint{Network: "bridge", Address: "172.30.0.2/16", Gateway: "172.30.0.1", MAC: "02:42:ac:1e:00:02"}
	b.event(c, "start")
	go func() {
		c.proc.run()
		b.mu.Lock()
		defer b.mu.Unlock()
		c.exit = triton.ExitRecord{Code: c.proc.code, At: time.Now()}
		c.exits++
		c.c.State.Status, c.c.State.Pid = triton.StatusExited, 0
		c.c.State.ExitCode, c.c.State.FinishedAt = c.proc.code, time.Now()
		b.event(c, "die")
		if c.c.Spec.AutoRemove {
			c.removed = true
			b.event(c, "destroy")
		}
	}()
	return nil
}

func (b *fakeBackend) StopContainer(ctx context.Context, key triton.ContainerKey, _ string, _ *int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	if c.c.State.Status != triton.StatusRunning {
		return ErrNotModified
	}
	c.proc.kill <- 137
	return b.until(ctx, func() bool { return c.c.State.Status != triton.StatusRunning })
}

func (b *fakeBackend) RestartContainer(ctx context.Context, key triton.ContainerKey, signal string, timeout *int) error {
	if err := b.StopContainer(ctx, key, signal, timeout); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	return b.StartContainer(ctx, key)
}

func (b *fakeBackend) KillContainer(ctx context.Context, key triton.ContainerKey, _ string) error {
	err := b.StopContainer(ctx, key, "", nil)
	if errdefs.IsNotModified(err) {
		return fmt.Errorf("container %s is not running: %w", key.ID, errdefs.ErrConflict)
	}
	return err
}

func (b *fakeBackend) RemoveContainer(ctx context.Context, key triton.ContainerKey, force, _ bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	if c.c.State.Status == triton.StatusRunning {
		if !force {
			return fmt.Errorf("container %q is running: stop the container before removing: %w", c.c.Name, errdefs.ErrConflict)
		}
		c.proc.kill <- 137
		if err := b.until(ctx, func() bool { return c.c.State.Status != triton.StatusRunning }); err != nil {
			return err
		}
	}
	c.removed = true
	b.event(c, "destroy")
	return nil
}

func (b *fakeBackend) RemoveLink(_ context.Context, key triton.ContainerKey, alias string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(c.c.Spec.Links), func(link string) bool { return strings.HasSuffix(link, ":"+alias) })
	if len(left) == len(c.c.Spec.Links) {
		return fmt.Errorf("cannot get link %s: %w", alias, errdefs.ErrNotFound)
	}
	c.c.Spec.Links = left
	return nil
}

func (b *fakeBackend) WaitContainer(
	_ context.Context, key triton.ContainerKey, until triton.WaitCondition,
) (func(context.Context) (triton.ExitRecord, error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return nil, err
	}
	exits := c.exits
	return func(ctx context.Context) (triton.ExitRecord, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		err := b.until(ctx, func() bool {
			switch until {
			case triton.WaitRemoved:
				return c.removed
			case triton.WaitNextExit:
				return c.exits > exits || c.removed
			}
			return c.c.State.Status != triton.StatusRunning
		})
		return c.exit, err
	}, nil
}

func (b *fakeBackend) InspectContainer(_ context.Context, key triton.ContainerKey) (triton.Container, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return triton.Container{}, err
	}
	return c.c, nil
}

// Changes counts its own calls: tests change the backend's insides as they like.
func (b *fakeBackend) Changes() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.still {
		b.changes++
	}
	return b.changes
}

func (b *fakeBackend) ListContainers(_ context.Context, tenant triton.Tenant) ([]triton.Container, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lists++
	var list []triton.Container
	for key, c := range b.containers {
		if key.Tenant == tenant && !c.removed {
			list = append(list, c.c)
		}
	}
	return list, nil
}

func (b *fakeBackend) ResizeContainer(_ context.Context, key triton.ContainerKey, height, width uint) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	c.proc.resize(height, width)
	return nil
}

func (b *fakeBackend) AttachContainer(_ context.Context, key triton.ContainerKey, opt triton.AttachOptions) (Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return nil, err
	}
	return c.proc.attach(opt, nil), nil
}

func (b *fakeBackend) ContainerLogs(ctx context.Context, key triton.ContainerKey, opt triton.LogOptions, emit func(triton.LogRecord) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return err
	}
	if c.c.Spec.Log.Driver == triton.LogNone {
		return notBuilt("configured logging driver does not support reading")
	}
	if opt.Opened != nil {
		if err := opt.Opened(); err != nil {
			return err
		}
	}
	at := 0
	if opt.Tail >= 0 {
		at = max(0, len(c.log)-opt.Tail)
	}
	for {
		for ; at < len(c.log); at++ {
			rec := c.log[at]
			if rec.Stream == "stdout" && !opt.Stdout || rec.Stream == "stderr" && !opt.Stderr {
				continue
			}
			if rec.Time.Before(opt.Since) || !opt.Until.IsZero() && rec.Time.After(opt.Until) {
				continue
			}
			if err := emit(rec); err != nil {
				return err
			}
		}
		if !opt.Follow || c.c.State.Status != triton.StatusRunning {
			return nil
		}
		if err := b.until(ctx, func() bool { return at < len(c.log) || c.c.State.Status != triton.StatusRunning }); err != nil {
			return err
		}
	}
}

func (b *fakeBackend) CreateExec(_ context.Context, key triton.ContainerKey, spec triton.ExecSpec) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.get(key)
	if err != nil {
		return "", err
	}
	if c.c.State.Status != triton.StatusRunning {
		return "", fmt.Errorf("container %s is not running: %w", key.ID, errdefs.ErrConflict)
	}
	e := triton.ExecKey{Container: key, ID: triton.NewID()}
	b.execs[e] = &fakeExec{e: triton.Exec{Key: e, Spec: spec}, proc: newFakeProcess(spec.Argv, spec.TTY)}
	return e.ID, nil
}

func (b *fakeBackend) ResolveExec(_ context.Context, tenant triton.Tenant, id string) (triton.ExecKey, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.execs {
		if key.ID == id && key.Container.Tenant == tenant {
			return key, nil
		}
	}
	return triton.ExecKey{}, notFound("No such exec instance: %s", id)
}

func (b *fakeBackend) startExec(e *fakeExec) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := e.proc.runnable(); err != nil {
		code := 127
		if strings.Contains(err.Error(), "permission denied") {
			code = 126
		}
		e.e.ExitCode = &code
		return err
	}
	e.e.Running, e.e.Pid = true, 77
	go func() {
		e.proc.run()
		b.mu.Lock()
		defer b.mu.Unlock()
		e.e.Running, e.e.ExitCode = false, &e.proc.code
		b.notify()
	}()
	return nil
}

func (b *fakeBackend) AttachExec(_ context.Context, key triton.ExecKey, size [2]uint) (Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.execs[key]
	if size != [2]uint{} {
		e.proc.size = size
	}
	opt := triton.AttachOptions{Stdin: e.e.Spec.Stdin, Stdout: true, Stderr: true}
	return e.proc.attach(opt, func() error { return b.startExec(e) }), nil
}

func (b *fakeBackend) StartExec(_ context.Context, key triton.ExecKey) error {
	return b.startExec(b.execs[key])
}

func (b *fakeBackend) InspectExec(_ context.Context, key triton.ExecKey) (triton.Exec, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.execs[key].e, nil
}

func (b *fakeBackend) ResizeExec(_ context.Context, key triton.ExecKey, height, width uint) error {
	b.execs[key].proc.resize(height, width)
	return nil
}

func (b *fakeBackend) NodeInfo(context.Context, triton.Tenant) (triton.NodeInfo, error) {
	return triton.NodeInfo{
		Name: "node1", ID: "id1", Version: "0.1", NCPU: 2, MemTotal: 8 << 30, KernelVersion: "6.18",
		OperatingSystem: "Test", CgroupVersion: "1", Architecture: "x86_64",
	}, nil
}

func (b *fakeBackend) Events(ctx context.Context, tenant triton.Tenant, since, until time.Time, emit func(triton.Event) error) error {
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at := 0
	if since.IsZero() {
		at = len(b.journal)
	}
	for {
		for ; at < len(b.journal); at++ {
			e := b.journal[at]
			if e.Tenant != tenant || e.Time.Before(since) || !until.IsZero() && e.Time.After(until) {
				continue
			}
			if err := emit(e); err != nil {
				return err
			}
		}
		if err := b.until(ctx, func() bool { return at < len(b.journal) }); err != nil {
			return nil
		}
	}
}

func (b *fakeBackend) ListImages(_ context.Context, tenant triton.Tenant) ([]triton.Image, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.images[tenant]), nil
}

func (b *fakeBackend) InspectImage(_ context.Context, tenant triton.Tenant, ref string) (triton.Image, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, img := range b.images[tenant] {
		byID := strings.HasPrefix(strings.TrimPrefix(img.ID, "sha256:"), strings.TrimPrefix(ref, "sha256:"))
		if byID || slices.Contains(img.RepoTags, familiarTag(ref)) {
			return img, nil
		}
	}
	return triton.Image{}, notFound("No such image: %s", familiarTag(ref))
}

func (b *fakeBackend) LoadImages(_ context.Context, _ triton.Tenant, archive io.Reader, _ func(triton.ImageProgress) error) ([]string, error) {
	raw, err := io.ReadAll(archive)
	b.loaded = raw
	if b.loadErr != nil {
		return nil, b.loadErr
	}
	return []string{"Loaded image: busybox:latest", "Loaded image ID: sha256:" + strings.Repeat("12", 32)}, err
}

func (b *fakeBackend) ImportImage(_ context.Context, tenant triton.Tenant, tar io.Reader, req triton.ImportRequest) (string, error) {
	raw, err := io.ReadAll(tar)
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	img := triton.Image{
		ID: "sha256:" + strings.Repeat("34", 32), RepoTags: []string{req.Ref}, Comment: req.Message, Size: int64(len(raw)),
		OS: "linux", Architecture: "amd64", Created: time.Unix(1800000000, 0),
	}
	img.Config.Cmd = req.Changes
	b.images[tenant] = append(b.images[tenant], img)
	return img.ID, nil
}

func (b *fakeBackend) TagImage(ctx context.Context, tenant triton.Tenant, source, target string) error {
	img, err := b.InspectImage(ctx, tenant, source)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.images[tenant] {
		at := &b.images[tenant][i]
		at.RepoTags = slices.DeleteFunc(slices.Clone(at.RepoTags), func(t string) bool { return t == target })
		if at.ID == img.ID {
			at.RepoTags = append(at.RepoTags, target)
		}
	}
	return nil
}

func (b *fakeBackend) RemoveImage(ctx context.Context, tenant triton.Tenant, ref string, _ bool) ([]ImageRemoval, error) {
	img, err := b.InspectImage(ctx, tenant, ref)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[tenant] = slices.DeleteFunc(b.images[tenant], func(i triton.Image) bool { return i.ID == img.ID })
	return []ImageRemoval{{Untagged: familiarTag(ref)}, {Deleted: img.ID}}, nil
}
