package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Login asks a registry whether it takes the credentials. The token, if there is one, stands for the password from then on.
// Credentials that are not taken are errdefs.ErrUnauthenticated.
func (s *Store) Login(ctx context.Context, auth triton.RegistryAuth) (identityToken string, err error) {
	host := serverHost(auth.ServerAddress)
	if host == "" {
		host = hubName
	}
	onToken := docker.WithFetchRefreshToken(func(_ context.Context, token string, _ *http.Request) { identityToken = token })
	r, err := s.cfg.Registries.open(host, auth, onToken)
	if err != nil {
		return "", err
	}
	defer r.close()
	resp, err := r.get(ctx, "/")
	if err != nil {
		return "", loginError(host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("login attempt to %s failed with status: %s", resp.Request.URL, resp.Status))
	}
	return identityToken, nil
}

// loginError is docker's words for a login that did not come to an answer.
func loginError(host string, err error) error {
	if reason, denied, _ := registryReason(err); denied {
		return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("Get %q: unauthorized: %s", "https://"+host+"/v2/", reason))
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		return transport
	}
	return err
}

// get requests a path below /v2, answering one challenge. It is for what containerd's resolver has no call for.
func (r *registry) get(ctx context.Context, path string) (*http.Response, error) {
	var before []*http.Response
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.host.Scheme+"://"+r.host.Host+r.host.Path+path, nil)
		if err != nil {
			return nil, fmt.Errorf("registry %s: %w", r.host.Host, err)
		}
		req.Header = r.header()
		if err := r.host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
		resp, err := r.host.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || len(before) > 0 {
			return resp, nil
		}
		resp.Body.Close()
		before = append(before, resp)
		if err := r.host.Authorizer.AddResponses(ctx, before); err != nil {
			return nil, err
		}
	}
}

// maxTags bounds what `docker pull --all-tags` follows.
const maxTags = 10000

// tags lists the tags of a repository.
func (r *registry) tags(ctx context.Context, name reference.Named) (all []string, err error) {
	ctx = docker.WithScope(ctx, "repository:"+reference.Path(name)+":pull")
	const page = "?n=1000"
	next := "/" + reference.Path(name) + "/tags/list" + page
	for next != "" && len(all) < maxTags {
		var list struct{ Tags []string }
		next, err = r.tagPage(ctx, next, &list)
		if err != nil {
			return nil, err
		}
		all = append(all, list.Tags...)
	}
	return all, nil
}

// tagPage reads one page and returns the path of the next one.
func (r *registry) tagPage(ctx context.Context, path string, list any) (next string, err error) {
	resp, err := r.get(ctx, path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", statusError(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDocument)).Decode(list); err != nil {
		return "", fmt.Errorf("list tags: %w", err)
	}
	// Link: </v2/NAME/tags/list?n=…&last=…>; rel="next"
	link, _, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	if !ok {
		return "", nil
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", fmt.Errorf("list tags: %w", err)
	}
	return strings.TrimPrefix(u.RequestURI(), r.host.Path), nil
}

// InspectRemote asks a registry about a reference, as `docker manifest` and docker's clients do before a pull.
func (s *Store) InspectRemote(ctx context.Context, ref string, auth triton.RegistryAuth) (triton.RegistryImage, error) {
	named, err := parseRemote(ref)
	if err != nil {
		return triton.RegistryImage{}, err
	}
	named = reference.TagNameOnly(named)
	r, err := s.cfg.Registries.open(reference.Domain(named), auth)
	if err != nil {
		return triton.RegistryImage{}, err
	}
	defer r.close()
	resolver := r.resolver()
	_, desc, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return triton.RegistryImage{}, registryError("pull", named, err)
	}
	out := triton.RegistryImage{MediaType: desc.MediaType, Digest: desc.Digest.String(), Size: desc.Size}
	fetcher, err := resolver.Fetcher(ctx, named.String())
	if err != nil {
		return out, registryError("pull", named, err)
	}
	out.Platforms, err = remotePlatforms(ctx, fetcher, desc)
	return out, registryError("pull", named, err)
}

// remotePlatforms reads what an index lists, or what the config of a single image says.
func remotePlatforms(ctx context.Context, from remotes.Fetcher, desc ocispec.Descriptor) (list []triton.Platform, err error) {
	raw, err := fetchDocument(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	add := func(p ocispec.Platform) {
		list = append(list, triton.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion})
	}
	if images.IsIndexType(desc.MediaType) {
		var index ocispec.Index
		if err := decodeRemote(desc, raw, &index); err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			if m.Platform != nil {
				add(*m.Platform)
			}
		}
		return list, nil
	}
	var m ocispec.Manifest
	if err := decodeRemote(desc, raw, &m); err != nil {
		return nil, err
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return nil, nil
	}
	if raw, err = fetchDocument(ctx, from, m.Config); err != nil {
		return nil, err
	}
	var config ocispec.Image
	if err := decodeRemote(m.Config, raw, &config); err != nil {
		return nil, err
	}
	add(platforms.Normalize(config.Platform))
	return list, nil
}
