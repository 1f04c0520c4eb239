package dockerapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/tritond/triton/pkg/triton"
)

// eventMessage is events.Message with the fields that clients up to API 1.51 read.
type eventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func messageFor(e *triton.Event) eventMessage {
	attributes := maps.Clone(e.Attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	m := eventMessage{Message: events.Message{
		Type: events.Type(e.Type), Action: events.Action(e.Action),
		Actor: events.Actor{ID: e.ID, Attributes: attributes},
		Scope: eventScope, Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}}
	switch e.Type {
	case triton.EventContainer:
		m.Status, m.ID, m.From = e.Action, e.ID, attributes["image"]
	case triton.EventImage:
		m.Status, m.ID = e.Action, e.ID
	}
	return m
}

// eventScope is docker's word for what is not swarm-wide.
const eventScope = "local"

// events streams events as JSON objects. Its header goes out at once: clients wait for it before they act.
func (s *Server) events(ctx context.Context, c *call) error {
	now := s.Now()
	since, err := c.query.epochTime("since", now)
	if err != nil {
		return err
	}
	until, err := c.query.epochTime("until", now)
	if err != nil {
		return err
	}
	if !until.IsZero() {
		if until.Before(since) {
			return invalid("`since` time (%s) cannot be after `until` time (%s)", c.query.Get("since"), c.query.Get("until"))
		}
		if since.IsZero() {
			since = time.Unix(0, 0) // as docker: all there is, up to then
		}
	} else if since.IsZero() {
		since = now // not from when the reading begins: who has the header counts on what comes after it
	}
	f, err := parseFilters(c.query.Get("filters"), "config", "container", "daemon", "event", "image", "label", "network", "node",
		"plugin", "scope", "secret", "service", "type", "volume")
	if err != nil {
		return err
	}
	if err := c.flushHeader("application/json"); err != nil {
		return err
	}
	out := newFlusher(c.w)
	defer out.close()
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return s.Backend.Events(ctx, c.tenant, since, until, func(e triton.Event) error {
		if !f.wantsEvent(&e) {
			return nil
		}
		return enc.Encode(messageFor(&e))
	})
}

func (f filters) wantsEvent(e *triton.Event) bool {
	// These actions carry more behind a colon ("exec_start: sh"); the bare word means all of them.
	prefixed := slices.ContainsFunc([]string{"health_status", "exec_create", "exec_start"}, func(w string) bool { return f["event"][w] })
	if !f.exact("event", e.Action) && !(prefixed && f.prefix("event", e.Action)) {
		return false
	}
	for _, kind := range []string{"config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"} {
		if !f.prefix(kind, e.ID, e.Attributes["name"]) {
			return false
		}
	}
	return f.exact("type", e.Type) && f.exact("scope", eventScope) && f.labels("label", e.Attributes) && f.matchesImage(e)
}

// matchesImage looks at the image of an image event or of a container's, with and without tag.
func (f filters) matchesImage(e *triton.Event) bool {
	name := e.Attributes["image"]
	if e.Type == triton.EventImage {
		name = e.Attributes["name"]
	}
	return f.exact("image", e.ID, name, familiarName(e.ID), familiarName(name))
}

func familiarName(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarName(ref)
}
