package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// API speaks HTTP to an engine's socket, for what the client cannot say (broken requests) or not fast enough.
type API struct {
	client *http.Client
	base   string
}

// Reply is an answer read to its end.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// NewAPI takes unix:///path or tcp://host:port. At most conns connections are kept open.
func NewAPI(host string, conns int) *API {
	network, address, _ := strings.Cut(host, "://")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	base := "http://engine"
	if network == "tcp" {
		base = "http://" + address
	}
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns}
	return &API{client: &http.Client{Transport: transport}, base: base}
}

// NewTLSAPI is NewAPI for a tenant: dir has the ca.pem, cert.pem and key.pem of a client certificate.
func NewTLSAPI(host, dir string, conns int) (*API, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s/ca.pem has no certificate", dir)
	}
	_, address, _ := strings.Cut(host, "://")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots}, MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns,
	}
	return &API{client: &http.Client{Transport: transport}, base: "https://" + address}, nil
}

// Close drops idle connections.
func (a *API) Close() { a.client.CloseIdleConnections() }

// Do sends body (nil: none) as it is, under the given content type, and reads the answer.
func (a *API) Do(ctx context.Context, method, path, contentType string, body io.Reader) (Reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return Reply{}, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return Reply{}, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	return Reply{Status: resp.StatusCode, Header: resp.Header, Body: b}, nil
}

// Stream asks for path and hands the answer over unread; the caller closes it. An answer that is no success is an error.
func (a *API) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return resp.Body, nil
}

// JSON sends in (nil: no body) and decodes the answer into out (nil: ignored). A status of 400 or more is an error
// with the engine's message.
func (a *API) JSON(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	contentType := ""
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, contentType = bytes.NewReader(b), "application/json"
	}
	r, err := a.Do(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	if r.Status >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %d %s", method, path, r.Status, strings.TrimSpace(string(r.Body)))
	}
	if out == nil || len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, out); err != nil {
		return fmt.Errorf("%s %s: decode answer: %w", method, path, err)
	}
	return nil
}

// RunOnce creates, starts and waits for a container, and leaves it there: the least a run takes without the client.
func (a *API) RunOnce(ctx context.Context, spec map[string]any) (id string, code int, err error) {
	var created struct{ Id string }
	if err := a.JSON(ctx, http.MethodPost, "/v1.41/containers/create", spec, &created); err != nil {
		return "", 0, err
	}
	if err := a.JSON(ctx, http.MethodPost, "/v1.41/containers/"+created.Id+"/start", nil, nil); err != nil {
		return created.Id, 0, err
	}
	var ended struct{ StatusCode int }
	err = a.JSON(ctx, http.MethodPost, "/v1.41/containers/"+created.Id+"/wait", nil, &ended)
	return created.Id, ended.StatusCode, err
}

// Remove deletes a container, running or not.
func (a *API) Remove(ctx context.Context, id string) error {
	return a.JSON(ctx, http.MethodDelete, "/v1.41/containers/"+id+"?force=1", nil, nil)
}
