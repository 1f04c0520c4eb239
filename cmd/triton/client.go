package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// defaultHost is where a tritond with its default roots listens.
const defaultHost = "unix:///run/tritond/docker.sock"

// client speaks to the daemon's own HTTP paths over the Docker socket.
type client struct {
	http *http.Client
	base string
}

// newClient takes an address as docker's -H and DOCKER_HOST have it: unix:///path or tcp://host:port.
func newClient(host string) (*client, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", host, err)
	}
	network, address := "unix", u.Path
	switch {
	case u.Scheme == "unix" && u.Path != "":
	case u.Scheme == "tcp" && u.Port() != "":
		network, address = "tcp", u.Host
	default:
		return nil, fmt.Errorf("host %q: must be unix:///PATH or tcp://HOST:PORT", host)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
	}
	return &client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://triton"}, nil
}

// get decodes the JSON of an own path into v. A refusal carries the daemon's message.
func (c *client) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(body, &refusal) == nil && refusal.Message != "" {
			return fmt.Errorf("%s", refusal.Message)
		}
		return fmt.Errorf("the daemon answered %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode the daemon's answer: %w", err)
	}
	return nil
}
