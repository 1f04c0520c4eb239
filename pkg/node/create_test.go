package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestMergeImageFollowsDockersRules(t *testing.T) {
	img := triton.Image{ID: "sha256:1", Config: triton.ImageConfig{
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin", "A=image", "B=image"},
		WorkingDir: "/srv", User: "web", ExposedPorts: []string{"80/tcp"}, Labels: map[string]string{"a": "image", "b": "image"},
		StopSignal: "SIGINT", Volumes: []string{"/data"},
	}}
	tests := []struct {
		name string
		in   triton.Spec
		argv []string
		env  []string
		dir  string
	}{
		{"nothing given", triton.Spec{}, []string{"/entry", "serve"}, []string{"PATH=/bin", "A=image", "B=image"}, "/srv"},
		{"command replaces command", triton.Spec{Cmd: []string{"x"}}, []string{"/entry", "x"}, []string{"PATH=/bin", "A=image", "B=image"}, "/srv"},
		{"entrypoint drops the image's command", triton.Spec{Entrypoint: []string{"sh"}}, []string{"sh"}, []string{"PATH=/bin", "A=image", "B=image"}, "/srv"},
		{"empty entrypoint resets", triton.Spec{Entrypoint: []string{""}, Cmd: []string{"x"}}, []string{"x"}, []string{"PATH=/bin", "A=image", "B=image"}, "/srv"},
		{"environment", triton.Spec{Env: []string{"A=user", "B", "C=new"}, WorkingDir: "/w"}, []string{"/entry", "serve"}, []string{"PATH=/bin", "A=user", "C=new"}, "/w"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.in
			warnings := mergeImage(&s, img)
			got := []any{s.Argv(), s.Env, s.WorkingDir, s.User, s.StopSignal, s.ExposedPorts, s.Log.Driver, len(warnings)}
			want := []any{tt.argv, tt.env, tt.dir, "web", "SIGINT", []string{"80/tcp"}, triton.LogJSONFile, 1}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("merged spec (-want +got):\n%s", d)
			}
		})
	}
}

func TestMergeImageLabelsOfTheUserWin(t *testing.T) {
	s := triton.Spec{Labels: map[string]string{"b": "user", "c": "user"}}
	img := triton.Image{Config: triton.ImageConfig{Labels: map[string]string{"a": "image", "b": "image"}}}
	mergeImage(&s, img)
	want := map[string]string{"a": "image", "b": "user", "c": "user"}
	if d := cmp.Diff(want, s.Labels); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
	if img.Config.Labels["b"] != "image" {
		t.Error("the image's own labels were changed")
	}
}
