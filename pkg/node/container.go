package node

import (
	"path/filepath"
	"sync"
	"time"

	"github.com/tritond/triton/pkg/death"
	"github.com/tritond/triton/pkg/runtime"
	"github.com/tritond/triton/pkg/shim/jsonlog"
	"github.com/tritond/triton/pkg/triton"
)

// container is the live side of a Record on this node.
type container struct {
	key     triton.ContainerKey
	dataDir string
	log     *jsonlog.Log

	life     sync.Mutex // held through a start or a removal
	agreeing sync.Mutex // held while the record in etcd changes
	saving   sync.Mutex // held while the state file is written
	naming   sync.Mutex // held while its files of names are written
	watching sync.Mutex // held while probes learn how much to measure
	signals  sync.Mutex // held from a signal to its event, so that no death that it causes comes before it in the journal

	mu        sync.Mutex
	rec       Record
	revision  int64
	state     triton.State
	task      *runtime.Task  // nil unless a first process exists
	next      *ending        // completed at the next exit, then replaced
	over      *ending        // the same for an exit that no restart follows
	nextRun   *appointment   // nil unless a restart is to come
	lastRun   bool           // somebody wants this run to end for good
	health    *triton.Health // replaced, never changed; nil: never probed
	probe     *appointment   // nil unless the run is probed
	last      triton.ExitRecord
	oomKills  int            // published of this run
	victims   []death.Victim // of these, the first few
	oomAfter  *death.OOM     // of the last; nil: not known
	oomSeq    uint64         // of the kernel's report that was told last
	toll      Toll           // since the daemon started
	patientTo time.Time      // when the shim ends what a stop has not; zero: nothing is being stopped
	forced    bool           // it is removed while it runs: its end says nothing
	stays     bool           // an end does not remove it, whatever AutoRemove says: a restart is under way
	removing  bool
	removed   *ending // completed once the container is gone
	waiting   []*attachment
	begun     *runtime.Task            // the one that is being started, once nobody has to wait for it
	readers   map[*jsonlog.Reader]bool // of its log
	logGone   bool                     // or about to be: nobody begins to read it any more
	execs     map[string]*exec

	links     []string               // on the default network, as made: rec.Spec.Links may have fewer since
	sources   map[string]string      // of volumes; set before anybody sees the container, never changed
	attached  []triton.Attachment    // replaced, never changed
	published []triton.PublishedPort // replaced, never changed
}

// ending is one exit to come: done is closed once record is set.
type ending struct {
	done   chan struct{}
	record triton.ExitRecord
}

func newEnding() *ending { return &ending{done: make(chan struct{})} }

func (e *ending) complete(r triton.ExitRecord) {
	e.record = r
	close(e.done)
}

func newContainer(dataRoot string, rec Record, revision int64) *container {
	c := &container{
		key: rec.Key, dataDir: containerDir(dataRoot, rec.Key), rec: rec, revision: revision, links: rec.Spec.Links,
		state: triton.State{Status: triton.StatusCreated},
		next:  newEnding(), over: newEnding(), removed: newEnding(), execs: map[string]*exec{},
	}
	c.log = jsonlog.NewLog(c.logPath())
	return c
}

// containerDir is where everything about a container lives that outlives its processes.
func containerDir(dataRoot string, k triton.ContainerKey) string {
	return filepath.Join(dataRoot, "tenants", string(k.Tenant), "containers", k.ID)
}

func (c *container) logPath() string { return filepath.Join(c.dataDir, c.key.ID+"-json.log") }

// running reports whether the container has a live first process. The caller holds c.mu.
func (c *container) running() bool {
	return c.state.Status.Runs()
}

// exited takes the end of a run into the state; d is its death record, nil if it was a normal end; lost says why nobody knows
// its status, where that is so. The caller holds c.mu.
func (c *container) exited(rec triton.ExitRecord, d *death.Record, lost string) {
	c.last = rec
	c.state.Status, c.state.Pid, c.state.CgroupID = triton.StatusExited, 0, 0
	c.state.FinishedAt, c.state.ExitCode, c.state.OOMKilled = rec.At, rec.Code, rec.OOMKilled
	c.state.Error = stateError(d)
	if rec.Source == triton.ExitLost {
		c.state.Error = "exit status lost: " + lost
	}
}

// view copies what others may see. It does no I/O.
func (c *container) view(cgroup string) triton.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := triton.Container{
		Key: c.key, Name: c.rec.Name, Created: c.rec.Created, Spec: c.rec.Spec, State: c.state, Health: c.health,
		Network: c.rec.Endpoint, IDs: c.rec.IDs, DataDir: c.dataDir, Cgroup: cgroup,
		Published: c.published, Networks: c.rec.Networks, Attached: c.attached, VolumeSources: c.sources,
	}
	if c.rec.Spec.Log.Driver == triton.LogJSONFile {
		v.LogPath = c.logPath()
	}
	for id, e := range c.execs {
		if e.running() {
			v.ExecIDs = append(v.ExecIDs, id)
		}
	}
	return v
}

// event builds an event about the container at time t, with docker's attributes.
func (c *container) event(action string, t time.Time, extra map[string]string) triton.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	attrs := make(map[string]string, len(c.rec.Spec.Labels)+2+len(extra))
	for k, v := range c.rec.Spec.Labels {
		attrs[k] = v
	}
	for k, v := range extra {
		attrs[k] = v
	}
	attrs["name"] = c.rec.Name
	attrs["image"] = c.rec.Spec.Image
	return triton.Event{
		Time: t, Tenant: c.key.Tenant, Type: triton.EventContainer, Action: action, ID: c.key.ID, Attributes: attrs,
	}
}
