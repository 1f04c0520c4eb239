package shim

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// FuzzReadMessage feeds the decoder what a hostile peer might send.
func FuzzReadMessage(f *testing.F) {
	good, _ := encodeRequest(VerbHello, Hello{Protocol: 1})
	f.Add(good)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '{'})
	f.Add([]byte{0, 0, 0, 2, '{', '}', 0, 0})
	f.Add([]byte{0, 0x3f, 0, 0, '['})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		payload, err := readFrame(in)
		if err != nil {
			return
		}
		if len(payload) > len(data)-4 || len(payload) > MaxFrame {
			t.Fatalf("%d bytes out of %d", len(payload), len(data))
		}
		var req Request
		if json.Unmarshal(payload, &req) != nil {
			return
		}
		again, err := encodeFrame(req)
		if err != nil {
			return
		}
		var same Request
		if err := readMessage(bytes.NewReader(again), &same); err != nil {
			t.Fatalf("a request does not survive its own encoding: %v", err)
		}
	})
}

func TestFrameLimits(t *testing.T) {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], MaxFrame+1)
	if _, err := readFrame(bytes.NewReader(head[:])); !errors.Is(err, errFrameTooLong) {
		t.Errorf("long frame: %v", err)
	}
	binary.BigEndian.PutUint32(head[:], 10)
	if _, err := readFrame(bytes.NewReader(append(head[:], "abc"...))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short frame: %v", err)
	}
	if _, err := encodeFrame(strings.Repeat("x", MaxFrame)); !errors.Is(err, errFrameTooLong) {
		t.Errorf("encode: %v", err)
	}
}

func TestStepWordHoldsEveryStep(t *testing.T) {
	for _, s := range []step{
		{}, {start: 1, end: memBuffer}, {start: 3, end: 5, n: stepSize}, {start: 70000, end: 131072, n: 61072, logging: true},
	} {
		if got := stepOf(s.word()); got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	}
	if stepOf(^uint64(0)).valid() {
		t.Error("nonsense is valid")
	}
}

func TestStartErrorsAreToldApart(t *testing.T) {
	for text, want := range map[string]ErrorKind{
		`unable to start container process: error during container init: exec: "foo": executable file not found in $PATH`: KindExecNotFound,
		`x: exec: "/a/b": stat /a/b: no such file or directory`:                                                           KindExecNotFound,
		`x: exec: "/etc/passwd": permission denied`:                                                                       KindNotExecutable,
		`x: exec: "/": is a directory`:                                                                                    KindNotExecutable,
		`x: chdir to cwd ("/nope") set in config.json failed: no such file or directory`:                                  KindExecNotFound,
		`mounting "/x" to rootfs: no such file or directory`:                                                              KindInternal,
		`bind mount: permission denied`:                                                                                   KindInternal,
	} {
		var e *Error
		if err := startError(errors.New(text)); !errors.As(err, &e) || e.Kind != want || e.Message != text {
			t.Errorf("%s: %+v, want %s", text, e, want)
		}
	}
}

// A shim is paid for with each container: what it links must stay small.
func TestShimLinksNothingHeavy(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "seccomp", "../../cmd/triton-shim", ".", "./jsonlog").Output()
	must(t, err)
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for _, heavy := range []string{"github.com/containerd/containerd", "go.etcd.io/", "github.com/prometheus/", "google.golang.org/grpc"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("links %s", dep)
			}
		}
		if dep == "net/http" {
			t.Error("links net/http")
		}
	}
}

func TestKernelHostileClientsDoNotHurt(t *testing.T) {
	r := newRig(t, "sleep", "1000")
	r.create()
	must(t, r.client.Start(r.ctx()))
	hello, err := encodeRequest(VerbHello, Hello{Protocol: 1, Generation: 1})
	must(t, err)
	frame := func(s string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
	}
	for name, bytes := range map[string][]byte{
		"nothing":         nil,
		"too long":        {0xff, 0xff, 0xff, 0xff},
		"cut short":       {0, 0, 1, 0, '{'},
		"no json":         frame("garbage"),
		"no hello":        frame(`{"verb":"delete","body":{"force":true}}`),
		"unknown verb":    append(append([]byte(nil), hello...), frame(`{"verb":"dance"}`)...),
		"no body":         append(append([]byte(nil), hello...), frame(`{"verb":"signal"}`)...),
		"wrong body":      append(append([]byte(nil), hello...), frame(`{"verb":"exec","body":[1]}`)...),
		"path as exec id": append(append([]byte(nil), hello...), frame(`{"verb":"exec","body":{"id":"../x","process":{}}}`)...),
		"create again":    append(append([]byte(nil), hello...), frame(`{"verb":"create","body":{}}`)...),
	} {
		nc, err := net.Dial("unix", r.shim.Args[3])
		must(t, err)
		uc := nc.(*net.UnixConn)
		// Descriptors that nobody asked for come along.
		rights := unix.UnixRights(0, 1, 2)
		if len(bytes) > 0 {
			_, _, err = uc.WriteMsgUnix(bytes, rights, nil)
			must(t, err)
		}
		must(t, uc.CloseWrite())
		if _, err := io.Copy(io.Discard, uc); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
		uc.Close()
	}
	st, err := r.client.State(r.ctx())
	must(t, err)
	if diff := cmp.Diff("running", string(st.Status)); diff != "" || len(st.Execs) != 0 {
		t.Errorf("state %+v", st)
	}
	links, err := filepath.Glob("/proc/" + itoa(r.shim.Process.Pid) + "/fd/*")
	if err != nil || len(links) > 40 {
		t.Errorf("the shim holds %d descriptors, %v", len(links), err)
	}
}
