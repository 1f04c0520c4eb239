package dockerapi

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tritond/triton/pkg/triton"
)

func TestHealthcheckOfTheUserGoesBeforeTheImages(t *testing.T) {
	image := &triton.Healthcheck{Test: []string{"CMD", "image"}, Interval: time.Second, Retries: 7}
	for _, c := range []struct{ mine, image, want *triton.Healthcheck }{
		{nil, nil, nil},
		{nil, image, image},
		{&triton.Healthcheck{Test: []string{"NONE"}}, nil, &triton.Healthcheck{Test: []string{"NONE"}}},
		{&triton.Healthcheck{Timeout: time.Minute}, image, &triton.Healthcheck{Test: image.Test, Interval: time.Second, Timeout: time.Minute, Retries: 7}},
		{&triton.Healthcheck{Test: []string{"CMD", "mine"}, Retries: 1}, image, &triton.Healthcheck{Test: []string{"CMD", "mine"}, Interval: time.Second, Retries: 1}},
	} {
		spec := triton.Spec{Healthcheck: c.mine}
		mergeHealthcheck(&spec, c.image)
		if diff := cmp.Diff(c.want, spec.Healthcheck); diff != "" {
			t.Errorf("%+v and %+v: %s", c.mine, c.image, diff)
		}
	}
}
