package shim

import (
	"encoding/json"
	"errors"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// A container that is stopped by clients which read nothing ends at once, and is removed; then they get all that it wrote, which
// is what its log has.
func TestKernelClientsThatDoNotReadHoldUpNoEndAndLoseNothing(t *testing.T) {
	r := newRig(t, "sh", "-c", "cat /dev/zero & exec cat /dev/zero >&2")
	r.create()
	lets := []func() *gathered{r.slowly(outputs), r.slowly(outputs)}
	must(t, r.client.Start(r.ctx()))
	var last uint64
	await(t, "nothing more is written", func() error {
		st, err := r.client.State(r.ctx())
		must(t, err)
		if now := st.Log.Bytes; now != last || now < clientWindow {
			last = now
			return errors.New("still flowing")
		}
		return nil
	})
	began := time.Now()
	must(t, r.client.Signal(r.ctx(), SignalRequest{Signal: int(unix.SIGKILL)}))
	r.wait("")
	r.remove()
	if took := time.Since(began); took > drainBound {
		t.Errorf("the end took %v", took)
	}
	logged := len(r.logText())
	for _, let := range lets {
		stdout, stderr := unframe(t, let().end(t))
		if n := len(stdout) + len(stderr); n != logged || len(stdout) == 0 || len(stderr) == 0 {
			t.Errorf("a client got %d and %d bytes, the log has %d", len(stdout), len(stderr), logged)
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
