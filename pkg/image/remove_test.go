package image_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/image"
	"github.com/tritond/triton/pkg/image/imagetest"
	"github.com/tritond/triton/pkg/triton"
)

// users is what the node would answer about containers.
type users struct{ all, running []string }

func (u *users) config() image.Config {
	return image.Config{
		InUse:   func(context.Context, triton.Tenant, string) ([]string, error) { return u.all, nil },
		Running: func(context.Context, triton.Tenant, string) ([]string, error) { return u.running, nil },
	}
}

func TestKernelRemoveFollowsDockersRules(t *testing.T) {
	const container = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	im := small("a")
	id, short := im.ID(), im.ID()[7:19]
	layer := im.Layers[0]
	chain := layerChain(layer.Tar)
	untagged := func(n string) image.Removal { return image.Removal{Untagged: n} }
	deleted := func(n string) image.Removal { return image.Removal{Deleted: n} }
	stopped := users{all: []string{container}}
	running := users{all: []string{container}, running: []string{container}}

	for _, c := range []struct {
		name    string
		tags    []string
		users   users
		ref     string
		force   bool
		want    []image.Removal
		wantErr string
		left    bool // the image is still there
	}{
		{name: "only name", tags: []string{"a:1"}, ref: "a:1", want: []image.Removal{untagged("a:1"), deleted(id), deleted(chain)}},
		{name: "one of two names", tags: []string{"a:1", "b:latest"}, ref: "b", want: []image.Removal{untagged("b:latest")}, left: true},
		{name: "id with a name", tags: []string{"a:1"}, ref: id, want: []image.Removal{untagged("a:1"), deleted(id), deleted(chain)}},
		{name: "short id with a name", tags: []string{"a:1"}, ref: short, want: []image.Removal{untagged("a:1"), deleted(id), deleted(chain)}},
		{name: "dangling", ref: short, want: []image.Removal{deleted(id), deleted(chain)}},
		{name: "id with two names", tags: []string{"a:1", "b:1"}, ref: short, left: true,
			wantErr: "conflict: unable to delete " + short + " (must be forced) - image is referenced in multiple repositories"},
		{name: "id with two names, by force", tags: []string{"a:1", "b:1"}, ref: short, force: true,
			want: []image.Removal{untagged("a:1"), untagged("b:1"), deleted(id), deleted(chain)}},
		{name: "only name, stopped container", tags: []string{"a:1"}, users: stopped, ref: "a:1", left: true,
			wantErr: `conflict: unable to remove repository reference "a:1" (must force) - container 0123456789ab is using its referenced image ` + short},
		{name: "only name, stopped container, by force", tags: []string{"a:1"}, users: stopped, ref: "a:1", force: true,
			want: []image.Removal{untagged("a:1"), deleted(id), deleted(chain)}},
		{name: "one of two names, running container", tags: []string{"a:1", "b:1"}, users: running, ref: "b:1", want: []image.Removal{untagged("b:1")}, left: true},
		{name: "id, stopped container", tags: []string{"a:1"}, users: stopped, ref: short, left: true,
			wantErr: "conflict: unable to delete " + short + " (must be forced) - image is being used by stopped container 0123456789ab"},
		{name: "id, running container", tags: []string{"a:1"}, users: running, ref: short, left: true,
			wantErr: "conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container 0123456789ab"},
		{name: "id, running container, by force", tags: []string{"a:1"}, users: running, ref: short, force: true, left: true,
			wantErr: "conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container 0123456789ab"},
		{name: "only name, running container, by force", tags: []string{"a:1"}, users: running, ref: "a:1", force: true,
			want: []image.Removal{untagged("a:1")}, left: true},
		{name: "unknown", tags: []string{"a:1"}, ref: "b", wantErr: "No such image: b:latest", left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, c.users.config())
			im := im
			im.Tags = c.tags
			load(t, s, imagetest.Docker(im))
			got, err := s.Remove(t.Context(), tenant, c.ref, c.force)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
			if text := errorText(err); text != c.wantErr {
				t.Errorf("got error %q, want %q", text, c.wantErr)
			}
			if err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
				t.Errorf("the error is of no kind: %v", err)
			}
			if _, err := s.Inspect(t.Context(), tenant, id); errdefs.IsNotFound(err) == c.left {
				t.Errorf("inspect afterwards: %v", err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestKernelRemoveNamesOnlyLayersThatNothingElseNeeds(t *testing.T) {
	s := open(t, image.Config{})
	base := imagetest.Layer{Tar: imagetest.Files(map[string]string{"base": "x"})}
	on := func(f string) imagetest.Image {
		return imagetest.Image{Tags: []string{f + ":latest"}, Layers: []imagetest.Layer{base, {Tar: imagetest.Files(map[string]string{f: "x"})}}}
	}
	load(t, s, imagetest.Docker(on("one"), on("two")))
	first, err := s.Remove(t.Context(), tenant, "one", false)
	if err != nil || len(first) != 3 {
		t.Errorf("first: got %v, %v, want the name, the image and one layer", first, err)
	}
	// A container of the second image keeps its layers from being listed, as docker does.
	if _, err := s.Prepare(t.Context(), newKey(), on("two").ID(), noIDs); err != nil {
		t.Fatal(err)
	}
	second, err := s.Remove(t.Context(), tenant, "two", true)
	if err != nil || len(second) != 2 {
		t.Errorf("second: got %v, %v, want the name and the image", second, err)
	}
}

func TestKernelRemoveIsRefusedWhenNobodyCanSayWhoUsesTheImage(t *testing.T) {
	broken := errors.New("node is away")
	s := open(t, image.Config{InUse: func(context.Context, triton.Tenant, string) ([]string, error) { return nil, broken }})
	load(t, s, imagetest.Docker(small("a", "a:1")))
	if _, err := s.Remove(t.Context(), tenant, "a:1", true); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if _, err := s.Inspect(t.Context(), tenant, "a:1"); err != nil {
		t.Errorf("inspect: %v", err)
	}
}

func TestKernelTagNamesAndMoves(t *testing.T) {
	s := open(t, image.Config{})
	a, b := small("a", "a:1"), small("b", "b:1")
	load(t, s, imagetest.Docker(a, b))
	for _, step := range []struct{ source, target, wantID string }{
		{"a:1", "c", a.ID()},
		{b.ID(), "c:latest", b.ID()},
		{a.ID()[7:20], "localhost:5000/x/y:2", a.ID()},
	} {
		if err := s.Tag(t.Context(), tenant, step.source, step.target); err != nil {
			t.Fatalf("tag %s %s: %v", step.source, step.target, err)
		}
		if got, err := s.Inspect(t.Context(), tenant, step.target); err != nil || got.ID != step.wantID {
			t.Errorf("%s: got %s, %v, want %s", step.target, got.ID, err, step.wantID)
		}
	}
	for target, want := range map[string]string{
		"UPPER":                               "invalid reference format",
		"x@sha256:" + strings.Repeat("a", 64): "refusing to create a tag with a digest reference",
		"sha256:abc":                          "refusing to create an ambiguous tag using digest algorithm as name",
	} {
		if err := s.Tag(t.Context(), tenant, "a:1", target); !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("tag as %s: got %v, want %s", target, err, want)
		}
	}
	if err := s.Tag(t.Context(), tenant, "nope", "x"); !errdefs.IsNotFound(err) || err.Error() != "No such image: nope:latest" {
		t.Errorf("tag of an unknown image: got %v", err)
	}
}

func TestKernelInspectFindsAnImageByAllItsNames(t *testing.T) {
	s := open(t, image.Config{})
	im := small("a", "docker.io/library/a:1", "ghcr.io/x/y:latest")
	load(t, s, imagetest.Layout(im))
	first, err := s.Inspect(t.Context(), tenant, "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a:1", "ghcr.io/x/y:latest"}, first.RepoTags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	for _, ref := range []string{
		"library/a:1", "docker.io/a:1", "ghcr.io/x/y", im.ID(), im.ID()[7:], im.ID()[:14], im.ID()[7:9],
		"a@" + first.Target, "ghcr.io/x/y@" + first.Target,
	} {
		if got, err := s.Inspect(t.Context(), tenant, ref); err != nil || got.ID != im.ID() {
			t.Errorf("%s: got %q, %v", ref, got.ID, err)
		}
	}
	for ref, want := range map[string]string{
		"a":                                 "No such image: a:latest",
		"ghcr.io/x/y:2":                     "No such image: ghcr.io/x/y:2",
		"other@" + first.Target:             "No such image: other@" + first.Target,
		"sha256:" + strings.Repeat("0", 64): "No such image: sha256:" + strings.Repeat("0", 64),
		im.ID()[7:] + "0":                   "No such image: " + im.ID()[7:] + "0:latest",
	} {
		if _, err := s.Inspect(t.Context(), tenant, ref); !errdefs.IsNotFound(err) || err.Error() != want {
			t.Errorf("%s: got %v, want %s", ref, err, want)
		}
	}
	if _, err := s.Inspect(t.Context(), tenant, "a b"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a b: got %v, want invalid argument", err)
	}
}

func TestKernelEventsTellWhatHappened(t *testing.T) {
	var (
		mu  sync.Mutex
		got []string
	)
	s := open(t, image.Config{Events: func(e triton.Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Type != triton.EventImage || e.Tenant != tenant || e.Time.IsZero() {
			t.Errorf("event %+v", e)
		}
		id, name := triton.ShortID(strings.TrimPrefix(e.ID, "sha256:")), strings.TrimPrefix(e.Attributes["name"], "sha256:")
		got = append(got, e.Action+" "+id+" "+name+" "+e.Attributes["team"])
	}})
	im := small("a", "a:1")
	im.Config.Labels = map[string]string{"team": "blue"}
	load(t, s, imagetest.Docker(im))
	if err := s.Tag(t.Context(), tenant, "a:1", "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), tenant, "b", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), tenant, "a:1", false); err == nil {
		t.Error("removed twice")
	}
	imported, err := s.Import(t.Context(), tenant, strings.NewReader(string(im.Layers[0].Tar)), triton.ImportRequest{Ref: "i:2", Changes: []string{"LABEL team=red"}})
	if err != nil {
		t.Fatal(err)
	}
	id, iid := im.ID()[7:], imported[7:]
	want := []string{
		"load " + id[:12] + " " + id + " blue",
		"tag " + id[:12] + " b:latest blue",
		"untag " + id[:12] + " b:latest blue",
		"untag " + id[:12] + " a:1 blue",
		"delete " + id[:12] + " " + id + " ",
		"tag " + iid[:12] + " i:2 red",
		"import " + iid[:12] + " " + iid + " red",
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
