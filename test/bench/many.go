package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tritond/triton/test/images"
)

const (
	// many is how many containers, made but not started, the API's listing of all is measured with.
	many      = 1000
	manyLists = 100
)

// listMany measures GET /containers/json?all=1 of tritond: again and again, and each after a change, which tritond must
// then look at. A peer takes minutes to make as many containers, and is measured with fewer in listRate.
func (b *bench) listMany(ctx context.Context) error {
	const list = "/v1.51/containers/json?all=1"
	name := fmt.Sprintf("GET /containers/json?all=1, %d created", many)
	if !b.cfg.only.MatchString(name) || b.cfg.alone {
		return nil
	}
	peers := b.subjects
	defer func() { b.subjects = peers }()
	b.subjects = peers[:1]
	s := b.subjects[0]
	b.progress("create containers: " + name)
	var last string
	for range many {
		var created struct{ Id string }
		if err := s.api.JSON(ctx, http.MethodPost, "/v1.51/containers/create", map[string]any{"Image": images.True}, &created); err != nil {
			return err
		}
		last = created.Id
	}
	get := func(ctx context.Context, s *subject) (time.Duration, error) {
		r, err := s.api.Do(ctx, http.MethodGet, list, "", nil)
		if err == nil && r.Status != http.StatusOK {
			err = fmt.Errorf("answered %d", r.Status)
		}
		return 0, err
	}
	renamed := 0
	rename := func(ctx context.Context, s *subject) error {
		renamed++
		return s.api.JSON(ctx, http.MethodPost, fmt.Sprintf("/v1.51/containers/%s/rename?name=renamed-%d", last, renamed), nil, nil)
	}
	for _, m := range []measurement{
		{name: name, target: "at most 20 ms", n: manyLists, op: get},
		{name: name + ", each after a change", target: "at most 20 ms", n: manyLists, op: get, before: rename},
	} {
		if err := b.timed(ctx, m); err != nil {
			return err
		}
	}
	rate, err := s.rate(ctx, list)
	if err != nil {
		return err
	}
	f := figure{unit: "requests/s", more: true, values: []float64{rate}}
	b.rows = append(b.rows, row{name: name + fmt.Sprintf(", %d connections", rateConns), target: "at least 100/s", figure: &f})
	return removeAll(ctx, s)
}
