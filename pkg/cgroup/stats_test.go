package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestBlkioLeavesOutTheSumAndWhatItDoesNotUnderstand(t *testing.T) {
	got := blkio("8:0 Read 4096\n8:0 Write 12\nnonsense Read 1\n8:0 Sync minus\nTotal 4108\n")
	want := []triton.BlockIO{{Major: 8, Op: "read", Value: 4096}, {Major: 8, Op: "write", Value: 12}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestIOStatTellsBytesFromOperations(t *testing.T) {
	bytes, ops := ioStat("254:1 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n\nbad\n")
	wantBytes := []triton.BlockIO{{Major: 254, Minor: 1, Op: "read", Value: 10}, {Major: 254, Minor: 1, Op: "write", Value: 20}}
	wantOps := []triton.BlockIO{{Major: 254, Minor: 1, Op: "read", Value: 1}, {Major: 254, Minor: 1, Op: "write", Value: 2}}
	if d := cmp.Diff([][]triton.BlockIO{wantBytes, wantOps}, [][]triton.BlockIO{bytes, ops}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
