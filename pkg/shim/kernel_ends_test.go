package shim

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"
)

// slowly is a client that takes nothing until it is let go.
func (r *rig) slowly(req AttachRequest) (let func() *gathered) {
	r.t.Helper()
	s, err := r.client.Attach(r.ctx(), req)
	must(r.t, err)
	r.t.Cleanup(func() { s.Close() })
	return func() *gathered {
		g := &gathered{done: make(chan struct{})}
		go g.read(s.Output)
		return g
	}
}

// A container that ended while its clients had not read megabytes of its output is removed at once, and they get all of it.
func TestKernelClientsThatDoNotReadHoldUpNoEndAndLoseNothing(t *testing.T) {
	r := newRig(t, "sh", "-c", "head -c 1048576 /dev/zero; head -c 60000 /dev/zero >&2; head -c 60000 /dev/zero")
	r.create()
	lets := []func() *gathered{r.slowly(outputs), r.slowly(outputs)}
	began := time.Now()
	must(t, r.client.Start(r.ctx()))
	r.wait("")
	r.remove()
	if took := time.Since(began); took > drainBound {
		t.Errorf("the end took %v", took)
	}
	for _, let := range lets {
		stdout, stderr := unframe(t, let().end(t))
		if len(stdout) != 1048576+60000 || len(stderr) != 60000 {
			t.Errorf("a client got %d and %d bytes", len(stdout), len(stderr))
		}
	}
}

// The first process takes the others with it: what they wrote before is not lost, whether their clients have read it or not.
func TestKernelExecsThatEndWithTheContainerLoseNothing(t *testing.T) {
	for range 10 {
		r := newRig(t, "sh", "-c", "until [ -e /tmp/0 -a -e /tmp/1 -a -e /tmp/2 ]; do usleep 1000; done")
		r.create()
		must(t, r.client.Start(r.ctx()))
		var lets []func() *gathered
		for i := range 3 {
			n := strconv.Itoa(i)
			lets = append(lets, r.execSlowly("e"+n, "sh", "-c", "head -c 900000 /dev/zero; echo over >&2; touch /tmp/"+n+"; exec sleep 1000"))
		}
		r.wait("")
		r.remove()
		for i, let := range lets {
			if stdout, stderr := unframe(t, let().end(t)); len(stdout) != 900000 || stderr != "over\n" {
				t.Fatalf("client %d got %d bytes and %q", i, len(stdout), stderr)
			}
		}
	}
}

// execSlowly runs a program whose client takes nothing until it is let go.
func (r *rig) execSlowly(id string, argv ...string) (let func() *gathered) {
	r.t.Helper()
	p := *r.spec.Process
	p.Args = argv
	oci, err := json.Marshal(&p)
	must(r.t, err)
	must(r.t, r.client.Exec(r.ctx(), ExecRequest{ID: id, Process: oci}))
	let = r.slowly(AttachRequest{ExecRef: ExecRef{ID: id}, Stdout: true, Stderr: true})
	_, err = r.client.ExecStart(r.ctx(), id)
	must(r.t, err)
	return let
}
