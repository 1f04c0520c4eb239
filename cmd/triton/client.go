package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritond/triton/pkg/tritonapi/wire"
)

// defaultHost is where a tritond with its default roots listens.
const defaultHost = "unix:///run/tritond/docker.sock"

// client speaks to the daemon's own HTTP paths over the Docker socket.
type client struct {
	http   *http.Client
	base   string
	tenant string // to act for, as an operator may; "": the caller's own
}

// tenantHeader is the daemon's auth.TenantHeader.
const tenantHeader = "X-Triton-Tenant"

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
	c := &client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://triton"}
	if network == "tcp" {
		c.base = "http://" + address
		if os.Getenv("DOCKER_TLS_VERIFY") != "" {
			cfg, err := clientTLS(os.Getenv("DOCKER_CERT_PATH"))
			if err != nil {
				return nil, err
			}
			c.base, c.http.Transport.(*http.Transport).TLSClientConfig = "https://"+address, cfg
		}
	}
	return c, nil
}

// clientTLS reads ca.pem, cert.pem and key.pem of a directory, as docker does.
func clientTLS(dir string) (*tls.Config, error) {
	if dir == "" {
		return nil, errors.New("DOCKER_TLS_VERIFY is set: DOCKER_CERT_PATH must be the directory of ca.pem, cert.pem and key.pem")
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("DOCKER_CERT_PATH: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("DOCKER_CERT_PATH: %s/ca.pem holds no certificate", dir)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, fmt.Errorf("DOCKER_CERT_PATH: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// get decodes the JSON of an own path into v.
func (c *client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// do sends in (nil: no body) and decodes the answer into out (nil: not read). A refusal carries the daemon's message.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the daemon's answer: %w", err)
	}
	return nil
}

// send is do with the answer unread; the caller closes its body.
func (c *client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.tenant != "" {
		req.Header.Set(tenantHeader, c.tenant)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	var r refusal
	if json.Unmarshal(answer, &r) == nil && r.Message != "" {
		return nil, r
	}
	return nil, fmt.Errorf("the daemon answered %s: %s", resp.Status, strings.TrimSpace(string(answer)))
}

// refusal is the daemon's answer to what it does not do; of most there is a message alone.
type refusal struct{ wire.Mistake }

func (r refusal) Error() string { return r.Message }
