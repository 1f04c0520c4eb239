package image_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

func TestKernelImportMakesAnImageOfOneLayer(t *testing.T) {
	root := imagetest.Files(map[string]string{"etc/motd": "hello"})
	for name, in := range map[string][]byte{
		"plain": root, "gzip": gzipped(root), "zstd": zstandard(root), "xz": packed(t, "xz", root), "bzip2": packed(t, "bzip2", root),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, image.Config{})
			id, err := s.Import(t.Context(), tenant, bytes.NewReader(in), triton.ImportRequest{Ref: "mine", Message: "from a test", Changes: []string{
				`CMD ["cat", "/etc/motd"]`, "ENV GREETING=hello NAME='big world'\nENV BOTH=\"$GREETING $NAME\"", "WORKDIR /srv", "WORKDIR data",
				"USER 1000:1000", "EXPOSE 80 53/udp 8000-8002", "LABEL a=1 b=\"2 3\"", `VOLUME ["/data"]`, "STOPSIGNAL SIGINT", "ENTRYPOINT exec env",
				"HEALTHCHECK --interval=2s --timeout=1m --start-period=3ms --start-interval=4s --retries=5 CMD [\"test\", \"-e\", \"/data\"]",
				"ONBUILD RUN make", "ONBUILD COPY . /src",
			}})
			if err != nil {
				t.Fatalf("import: %v", err)
			}
			got, err := s.Inspect(t.Context(), tenant, "mine:latest")
			if err != nil {
				t.Fatalf("inspect: %v", err)
			}
			if got.ID != id || got.Comment != "from a test" || got.Created.IsZero() || got.OS != "linux" || got.Size != 5 {
				t.Errorf("got %+v", got)
			}
			want := triton.ImageConfig{
				Entrypoint: []string{"/bin/sh", "-c", "exec env"}, Cmd: []string{"cat", "/etc/motd"},
				Env: []string{"GREETING=hello", "NAME=big world", "BOTH=hello big world"}, WorkingDir: "/srv/data", User: "1000:1000",
				ExposedPorts: []string{"53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"}, Volumes: []string{"/data"},
				Labels: map[string]string{"a": "1", "b": "2 3"}, StopSignal: "SIGINT",
				Healthcheck: &triton.Healthcheck{
					Test: []string{"CMD", "test", "-e", "/data"}, Interval: 2 * time.Second, Timeout: time.Minute, StartPeriod: 3 * time.Millisecond,
					StartInterval: 4 * time.Second, Retries: 5,
				},
				OnBuild: []string{"RUN make", "COPY . /src"},
			}
			if diff := cmp.Diff(want, got.Config); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			fs, err := s.Prepare(t.Context(), newKey(), id, noIDs)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(fs.Lower[0], "etc/motd")); err != nil || string(b) != "hello" {
				t.Errorf("file: got %q, %v", b, err)
			}
		})
	}
}

func TestKernelImportRefusesAndLeavesNothing(t *testing.T) {
	good := imagetest.Files(map[string]string{"a": "a"})
	root := t.TempDir()
	s := open(t, image.Config{Root: root})
	before := leftovers(t, s, root)
	for name, c := range map[string]struct {
		in      []byte
		ref     string
		changes []string
		want    string
	}{
		"no tar":           {in: []byte(strings.Repeat("no tar ", 1000)), want: "invalid tar header"},
		"cut tar":          {in: good[:512], want: "unexpected EOF"},
		"cut gzip":         {in: gzipped(good)[:40], want: "cut short"},
		"bad name":         {in: good, ref: "UPPER", want: "invalid reference format"},
		"digest as name":   {in: good, ref: "a@sha256:" + strings.Repeat("a", 64), want: "digest reference"},
		"other line":       {in: good, changes: []string{"RUN rm -rf /"}, want: "run is not a valid change command"},
		"no argument":      {in: good, changes: []string{"CMD"}, want: "CMD requires at least one argument"},
		"two users":        {in: good, changes: []string{"USER a b"}, want: "USER requires exactly one argument"},
		"open quote":       {in: good, changes: []string{`ENV a="b`}, want: "unexpected end of statement"},
		"env without name": {in: good, changes: []string{"ENV =b"}, want: "names can not be blank"},
		"env with a rest":  {in: good, changes: []string{"ENV a=b c"}, want: "can't find = in \"c\""},
		"port":             {in: good, changes: []string{"EXPOSE 99999"}, want: "invalid containerPort: 99999"},
		"ports":            {in: good, changes: []string{"EXPOSE 90-80"}, want: "invalid containerPort: 90-80"},
		"protocol":         {in: good, changes: []string{"EXPOSE 80/http"}, want: "invalid proto: http"},
		"signal":           {in: good, changes: []string{"STOPSIGNAL SIGNOPE"}, want: "invalid signal: SIGNOPE"},
		"health flag":      {in: good, changes: []string{"HEALTHCHECK --nosuch=1 CMD true"}, want: "HEALTHCHECK: --nosuch: unknown flag"},
		"health time":      {in: good, changes: []string{"HEALTHCHECK --interval=1us CMD true"}, want: "cannot be less than 1ms"},
		"health type":      {in: good, changes: []string{"HEALTHCHECK RUN true"}, want: `Unknown type "RUN" in HEALTHCHECK`},
		"health none":      {in: good, changes: []string{"HEALTHCHECK NONE x"}, want: "HEALTHCHECK NONE takes no arguments"},
		"health command":   {in: good, changes: []string{"HEALTHCHECK CMD"}, want: "Missing command after HEALTHCHECK CMD"},
		"trigger":          {in: good, changes: []string{"ONBUILD FROM x"}, want: "FROM isn't allowed as an ONBUILD trigger"},
		"substitution":     {in: good, changes: []string{"ENV a=${b:-c}"}, want: "unsupported substitution"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Import(t.Context(), tenant, bytes.NewReader(c.in), triton.ImportRequest{Ref: c.ref, Changes: c.changes})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an invalid argument with %q", err, c.want)
			}
		})
	}
	if _, err := s.Import(t.Context(), tenant, strings.NewReader("\xfd7zXZ\x00 and more"), triton.ImportRequest{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("damaged xz: got %v, want invalid argument", err)
	}
	for platform, want := range map[string]string{"windows/amd64": "operating system", "no/such/thing/at-all": "platform"} {
		_, err := s.Import(t.Context(), tenant, bytes.NewReader(good), triton.ImportRequest{Platform: platform})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("platform %s: got %v, want an invalid argument with %q", platform, err, want)
		}
	}
	if diff := cmp.Diff(before, leftovers(t, s, root)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// packed pipes data through a program.
func packed(t *testing.T, program string, data []byte) []byte {
	t.Helper()
	cmd := exec.Command(program, "-c")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", program, err)
	}
	return out
}
