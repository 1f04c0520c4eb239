package cluster

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writerDir makes this test binary a writer, to be killed, on the directory it names.
const writerDir = "TRITON_CLUSTER_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		write(dir)
	}
	os.Exit(m.Run())
}

// write creates keys until it is killed and prints the number of each one that was acknowledged.
func write(dir string) {
	c, err := Open(context.Background(), Config{Dir: dir})
	for i := 0; err == nil; i++ {
		if _, err = c.Create(context.Background(), "k/"+strconv.Itoa(i), []byte(strconv.Itoa(i))); err == nil {
			fmt.Println(i)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := readUntilKilled(t, cmd, bufio.NewScanner(out), 40+30*round)
		checkWritten(t, dir, acked)
	}
}

// readUntilKilled reads n acknowledgements, kills the writer and returns all numbers it had still acknowledged.
func readUntilKilled(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner, n int) []string {
	t.Helper()
	var acked []string
	for lines.Scan() {
		acked = append(acked, lines.Text())
		if len(acked) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("writer ended with %v after %d writes, want killed", err, len(acked))
	}
	return acked
}

// checkWritten opens the store, looks for each key and leaves the directory empty of them for the next round.
func checkWritten(t *testing.T, dir string, acked []string) {
	t.Helper()
	began := time.Now()
	c, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatalf("open after kill -9: %v", err)
	}
	defer c.Close()
	t.Logf("opened after kill -9 in %s, %d acknowledged writes", time.Since(began), len(acked))
	for _, n := range acked {
		kv, err := c.Get(t.Context(), "k/"+n)
		if err != nil || string(kv.Value) != n {
			t.Errorf("acknowledged write %s: got %q, %v", n, kv.Value, err)
		}
	}
	kvs, _, err := c.List(t.Context(), "k/")
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		if err := c.Delete(t.Context(), kv.Key, kv.Revision); err != nil {
			t.Fatal(err)
		}
	}
}
