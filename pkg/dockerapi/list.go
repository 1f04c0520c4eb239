package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tritond/triton/pkg/triton"
)

func (s *Server) listContainers(ctx context.Context, c *call) error {
	if c.query.bool("size") {
		return s.listSized(ctx, c)
	}
	now, changes := s.Now(), s.Backend.Changes() // before anything is read: a change from now on makes the answer stale
	key := answerKey{tenant: c.tenant, query: c.r.URL.RawQuery}
	if body := s.answers.get(key, changes, now); body != nil {
		return writeList(c, body)
	}
	filter, err := s.containerFilter(ctx, c)
	if err != nil {
		return err
	}
	all, err := s.Backend.ListContainers(ctx, c.tenant)
	if err != nil {
		return err
	}
	names, err := s.imageNames(ctx, c.tenant)
	if err != nil {
		return err
	}
	body, err := s.list.encode(filter.selectFrom(all), names, now)
	if err != nil {
		return err
	}
	s.list.prune(c.tenant, all)
	s.answers.put(key, changes, now, body)
	return writeList(c, body)
}

func writeList(c *call, body []byte) error {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(http.StatusOK)
	_, err := c.w.Write(body)
	return err
}

// summary is a row of docker ps.
type summary struct {
	container.Summary
	Ports []portSummary
}

func summaryOf(c *triton.Container, image, status string) summary {
	sum := summary{
		Summary: container.Summary{
			ID: c.Key.ID, Names: []string{"/" + c.Name},
			Image: image, ImageID: c.Spec.ImageID,
			Command: commandText(c.Spec.Argv()),
			Created: c.Created.Unix(),
			Labels:  c.Spec.Labels,
			State:   container.ContainerState(c.State.Status), Status: status,
			NetworkSettings: &container.NetworkSettingsSummary{Networks: endpointsOf(c)},
			Mounts:          mountPoints(c),
		},
		Ports: portSummaries(c),
	}
	if sum.Labels == nil {
		sum.Labels = map[string]string{}
	}
	sum.HostConfig.NetworkMode = or(c.Spec.NetworkMode, triton.ModeBridge)
	return sum
}

// commandText is docker's: words with a space in quotes, the program itself never.
func commandText(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		if i > 0 && strings.Contains(word, " ") {
			word = "'" + word + "'"
		}
		words[i] = word
	}
	return strings.Join(words, " ")
}

// statusText is "Up 3 seconds" or "Exited (0) 2 minutes ago".
func statusText(st *triton.State, health *triton.Health, now time.Time) string {
	switch st.Status {
	case triton.StatusRunning:
		return "Up " + units.HumanDuration(now.Sub(st.StartedAt)) + healthText(health)
	case triton.StatusPaused:
		return "Up " + units.HumanDuration(now.Sub(st.StartedAt)) + " (Paused)"
	case triton.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", st.ExitCode, units.HumanDuration(now.Sub(st.FinishedAt)))
	case triton.StatusDead:
		return "Dead"
	case triton.StatusCreated:
		return "Created"
	}
	if st.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", st.ExitCode, units.HumanDuration(now.Sub(st.FinishedAt)))
}

// listCache keeps the JSON of rows of docker ps: listing is what dashboards and scripts do all day. A row depends on the
// container's Spec, which never changes, and on what is in rowKey. It is bounded by the containers there are.
type listCache struct {
	mu   sync.Mutex
	rows map[triton.ContainerKey]row
}

type rowKey struct {
	name, image, status string
	state               triton.Status
	network             triton.Endpoint
	published, networks string
}

type row struct {
	key      rowKey
	json     []byte
	familiar string // the Spec's image as imageNames spells it; parsing a reference costs more than all the rest of a row
}

// encode gives the body of the list.
func (l *listCache) encode(list []*triton.Container, images imageNames, now time.Time) ([]byte, error) {
	const usual = 1 << 10 // bytes of a row
	body := bytes.NewBuffer(make([]byte, 0, 2+len(list)*usual))
	body.WriteByte('[')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows == nil {
		l.rows = make(map[triton.ContainerKey]row)
	}
	for i, c := range list {
		if i > 0 {
			body.WriteByte(',')
		}
		have, ok := l.rows[c.Key]
		if !ok {
			have.familiar = familiarTag(c.Spec.Image)
		}
		key := rowKey{name: c.Name, image: images.shown(c, have.familiar), status: statusText(&c.State, c.Health, now), state: c.State.Status, network: c.Network,
			published: publishedKey(c.Published), networks: networksKey(c)}
		if !ok || have.key != key {
			raw, err := marshalPlain(summaryOf(c, key.image, key.status))
			if err != nil {
				return nil, fmt.Errorf("encode container %s: %w", c.Key, err)
			}
			have.key, have.json = key, raw
			l.rows[c.Key] = have
		}
		body.Write(have.json)
	}
	body.WriteString("]\n")
	return body.Bytes(), nil
}

// prune forgets rows of containers of the tenant that are no longer there, once they are many.
func (l *listCache) prune(tenant triton.Tenant, all []triton.Container) {
	const slack = 64
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := 0
	for key := range l.rows {
		if key.Tenant == tenant {
			mine++
		}
	}
	if mine <= len(all)+slack {
		return
	}
	there := make(map[triton.ContainerKey]bool, len(all))
	for i := range all {
		there[all[i].Key] = true
	}
	for key := range l.rows {
		if key.Tenant == tenant && !there[key] {
			delete(l.rows, key)
		}
	}
}

// marshalPlain is json.Marshal that leaves < > & as they are, as docker's responses do.
func marshalPlain(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}), nil
}
