package shim

import (
	"encoding/binary"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/user"
)

// passwdReader is a process that answers with cmd/triton-enter's reading of passwd files, under the address sanitizer.
type passwdReader struct {
	in  io.WriteCloser
	out io.Reader
}

func startPasswdReader(tb testing.TB) *passwdReader {
	tb.Helper()
	bin := filepath.Join(tb.TempDir(), "passwd")
	if err := command("cc", "-fsanitize=address,undefined", "-fno-sanitize-recover", "-g", "-Wall", "-Werror", "-o", bin, "../../cmd/triton-enter/passwd-stdin.c"); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(bin)
	var r passwdReader
	var err error
	if r.in, err = cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if r.out, err = cmd.StdoutPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		r.in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("reader of passwd files: %v", err)
		}
	})
	return &r
}

// home asks for a user's folder; -1: the text has no such user.
func (r *passwdReader) home(tb testing.TB, text string, uid int64) (string, int64) {
	tb.Helper()
	ask := binary.NativeEndian.AppendUint64(nil, uint64(uid))
	ask = append(binary.NativeEndian.AppendUint64(ask, uint64(len(text))), text...)
	if _, err := r.in.Write(ask); err != nil {
		tb.Fatal(err)
	}
	var n int64
	if err := binary.Read(r.out, binary.NativeEndian, &n); err != nil {
		tb.Fatal(err)
	}
	home := make([]byte, max(n, 0))
	if _, err := io.ReadFull(r.out, home); err != nil {
		tb.Fatal(err)
	}
	return string(home), n
}

// FuzzHome compares the small program's reading of a container's passwd file with docker's.
func FuzzHome(f *testing.F) {
	for _, text := range []string{
		"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", "\n\n:::\n", "a:b:c", "x:x:1000", "x:x:+1000:::/plus", "x:x:-1::: /minus :",
		"x:x:99999999999999999999999x:::/big:", "x:x:9223372036854775808:::/a:", "short\r\nuser:x:1000:1:g:/dos\r\n", " \t user:x:1000:::/blank:/bin/sh",
		"x:x:1_000:::/a:\nx:x:1000:::", "x:x:9223372036854775807:::/max", "x:x:-9223372036854775809:::/min",
	} {
		f.Add(text, int64(0))
		f.Add(text, int64(1000))
	}
	r := startPasswdReader(f)
	f.Fuzz(func(t *testing.T, text string, uid int64) {
		// Beyond ASCII Go knows more blanks; a longer line is an error to it, and the user has no folder.
		if len(text) > 60_000 || strings.ContainsFunc(text, func(c rune) bool { return c > 127 }) {
			return
		}
		users, err := user.ParsePasswdFilter(strings.NewReader(text), func(u user.User) bool { return int64(u.Uid) == uid })
		if err != nil {
			t.Fatal(err)
		}
		got, n := r.home(t, text, uid)
		if found := n >= 0; found != (len(users) > 0) || found && got != users[0].Home {
			t.Errorf("uid %d: got %q (%d), want of %+v", uid, got, n, users)
		}
	})
}
