package triton

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHealthcheckOfTheUserGoesBeforeTheImages(t *testing.T) {
	image := &Healthcheck{Test: []string{"CMD", "image"}, Interval: time.Second, Retries: 7}
	for _, c := range []struct{ mine, image, want *Healthcheck }{
		{nil, nil, nil},
		{nil, image, image},
		{&Healthcheck{Test: []string{"NONE"}}, nil, &Healthcheck{Test: []string{"NONE"}}},
		{&Healthcheck{Timeout: time.Minute}, image, &Healthcheck{Test: image.Test, Interval: time.Second, Timeout: time.Minute, Retries: 7}},
		{&Healthcheck{Test: []string{"CMD", "mine"}, Retries: 1}, image, &Healthcheck{Test: []string{"CMD", "mine"}, Interval: time.Second, Retries: 1}},
	} {
		if diff := cmp.Diff(c.want, c.mine.Over(c.image)); diff != "" {
			t.Errorf("%+v and %+v: %s", c.mine, c.image, diff)
		}
	}
}

func TestImageConfigOverSharesNothing(t *testing.T) {
	below := ImageConfig{Cmd: []string{"c"}, Env: []string{"A=1"}, Labels: map[string]string{"l": "1"}, Volumes: []string{"/v"}}
	got := ImageConfig{}.Over(below)
	got.Cmd[0], got.Env[0], got.Labels["l"], got.Volumes[0] = "", "", "", ""
	want := ImageConfig{Cmd: []string{"c"}, Env: []string{"A=1"}, Labels: map[string]string{"l": "1"}, Volumes: []string{"/v"}}
	if diff := cmp.Diff(want, below); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
