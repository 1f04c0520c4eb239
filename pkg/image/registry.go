package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/tritond/triton/pkg/triton"
)

// RegistryConfig says how registries are spoken to. The zero value speaks TLS with the system's authorities to all but
// loopback addresses.
type RegistryConfig struct {
	// CertsDir has a directory per registry, named HOST or HOST:PORT, as docker's /etc/docker/certs.d: *.crt are authorities,
	// NAME.cert and NAME.key a client certificate. Empty: none.
	CertsDir string
	// Insecure lists hosts (with port, if it has one) and networks (10.0.0.0/8) whose certificates are not checked
	// and that may speak plain HTTP. Networks match registries that are named by address.
	Insecure []string
	// UserAgent is sent to registries; empty: "triton".
	UserAgent string
}

// Validate lists what is wrong with c.
func (c RegistryConfig) Validate() error {
	var errs []error
	for _, h := range c.Insecure {
		if strings.Contains(h, "://") {
			errs = append(errs, fmt.Errorf("insecure registry %q: must be HOST, HOST:PORT or a network, without a scheme: %w", h, errdefs.ErrInvalidArgument))
			continue
		}
		if _, err := netip.ParsePrefix(h); err != nil && (h == "" || strings.ContainsAny(h, "/ ")) {
			errs = append(errs, fmt.Errorf("insecure registry %q: must be HOST, HOST:PORT or a network: %w", h, errdefs.ErrInvalidArgument))
		}
	}
	return errors.Join(errs...)
}

// insecure tells registries that may speak plain HTTP: loopback, as docker has it, and what was configured.
// Names are not looked up: who answers for a name must not decide whether its certificate is checked.
func (c RegistryConfig) insecure(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	if err == nil && addr.Unmap().IsLoopback() {
		return true
	}
	for _, h := range c.Insecure {
		if strings.EqualFold(h, host) {
			return true
		}
		if p, perr := netip.ParsePrefix(h); perr == nil && err == nil && p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// Docker Hub's name in references and the host that serves it.
const (
	hubName   = "docker.io"
	hubServer = "registry-1.docker.io"
	// hubLogin is what docker's clients call Docker Hub when they log in.
	hubLogin = "https://index.docker.io/v1/"
)

// registry is one registry on behalf of one user, for the time of one operation.
type registry struct {
	host      docker.RegistryHost
	transport *http.Transport
	agent     string
}

// open makes a registry for the host of a name. What it returns is closed by the caller.
func (c RegistryConfig) open(host string, auth triton.RegistryAuth, opts ...docker.AuthorizerOpt) (*registry, error) {
	insecure := c.insecure(host)
	conf, err := c.tlsConfig(host, insecure)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: conf,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute, ExpectContinueTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: maxTransfers, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 1 << 20,
	}
	r := &registry{transport: t, agent: c.UserAgent}
	if r.agent == "" {
		r.agent = "triton"
	}
	client := &http.Client{Transport: t}
	if insecure {
		client.Transport = docker.NewHTTPFallback(t)
	}
	r.host = docker.RegistryHost{
		Client: client, Host: host, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
		Authorizer:   authorizer(host, auth, client, r.header(), opts),
	}
	if host == hubName {
		r.host.Host = hubServer
	}
	return r, nil
}

// close gives up the connections.
func (r *registry) close() { r.transport.CloseIdleConnections() }

func (r *registry) header() http.Header { return http.Header{"User-Agent": {r.agent}} }

// resolver is containerd's client for the registry.
func (r *registry) resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Headers: r.header(),
		Hosts:   func(string) ([]docker.RegistryHost, error) { return []docker.RegistryHost{r.host}, nil },
	})
}

// authorizer answers the registry's challenges. Secrets that were meant for another registry are not sent.
func authorizer(host string, auth triton.RegistryAuth, client *http.Client, header http.Header, opts []docker.AuthorizerOpt) docker.Authorizer {
	if server := serverHost(auth.ServerAddress); server != "" && server != host {
		auth = triton.RegistryAuth{}
	}
	if auth.RegistryToken != "" {
		return bearer{host, auth.RegistryToken}
	}
	creds := func(string) (string, string, error) {
		if auth.IdentityToken != "" {
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}
	return docker.NewDockerAuthorizer(append([]docker.AuthorizerOpt{
		docker.WithAuthClient(client), docker.WithAuthHeader(header), docker.WithAuthCreds(creds),
	}, opts...)...)
}

// serverHost is the host part of a server address as clients send it, as it appears in image names.
func serverHost(address string) string {
	if address == hubLogin {
		return hubName
	}
	for _, scheme := range []string{"https://", "http://"} {
		address = strings.TrimPrefix(address, scheme)
	}
	host, _, _ := strings.Cut(address, "/")
	switch host {
	case "index.docker.io", hubServer:
		return hubName
	}
	return host
}

// bearer sends one token to one host.
type bearer struct{ host, token string }

// Authorize implements docker.Authorizer.
func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	if req.URL.Host == b.host || b.host == hubName && req.URL.Host == hubServer {
		req.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

// AddResponses implements docker.Authorizer: a token that is not accepted once is not accepted the second time.
func (bearer) AddResponses(context.Context, []*http.Response) error {
	return fmt.Errorf("registry token was not accepted: %w", docker.ErrInvalidAuthorization)
}

// tlsConfig reads the certificates for a host. As in docker, they do not matter for an insecure one.
func (c RegistryConfig) tlsConfig(host string, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // asked for by the operator, or loopback
	if insecure || c.CertsDir == "" || strings.ContainsAny(host, `/\`) || host == ".." {
		return conf, nil
	}
	dir := filepath.Join(c.CertsDir, host)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return conf, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read certificates of registry %s: %w", host, err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = addAuthority(conf, path)
		case ".cert":
			err = addClientCert(conf, path)
		case ".key":
			if _, e := os.Stat(strings.TrimSuffix(path, ".key") + ".cert"); e != nil {
				err = fmt.Errorf("missing client certificate %s.cert for key %s", strings.TrimSuffix(path, ".key"), path)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return conf, nil
}

func addAuthority(conf *tls.Config, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read registry authority: %w", err)
	}
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("read the system's authorities: %w", err)
		}
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("registry authority %s: no certificate in it", path)
	}
	return nil
}

func addClientCert(conf *tls.Config, path string) error {
	cert, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
	if err != nil {
		return fmt.Errorf("registry client certificate %s: %w", path, err)
	}
	conf.Certificates = append(conf.Certificates, cert)
	return nil
}

// parseRemote reads the name of an image in a registry. A reference with tag and digest means the digest, as in docker.
func parseRemote(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	if d, ok := named.(reference.Digested); ok {
		if err := checkDigest(d.Digest()); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		return reference.WithDigest(reference.TrimNamed(named), d.Digest())
	}
	return named, nil
}
