package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tritond/triton/pkg/triton"
)

// Registries is what the endpoints need that speak to registries. Errors before the first line of progress decide the status.
type Registries interface {
	// PullImage calls emit from one goroutine, for each line that clients draw. It ends when ctx does.
	PullImage(ctx context.Context, tenant triton.Tenant, req triton.PullRequest, emit func(triton.ImageProgress) error) error
	PushImage(ctx context.Context, tenant triton.Tenant, req triton.PushRequest, emit func(triton.ImageProgress) error) error
	// Login asks a registry whether it takes the credentials: Unauthenticated if not. The token may be empty.
	Login(ctx context.Context, auth triton.RegistryAuth) (identityToken string, err error)
	// InspectRemote asks a registry about a reference.
	InspectRemote(ctx context.Context, ref string, auth triton.RegistryAuth) (triton.RegistryImage, error)
}

// maxAuthHeader bounds X-Registry-Auth: identity tokens have some kilobytes.
const maxAuthHeader = 64 << 10

// registryAuth reads X-Registry-Auth. Without it nobody is authenticated.
func (c *call) registryAuth() (triton.RegistryAuth, error) {
	auth, err := decodeRegistryAuth(c.r.Header.Get(registry.AuthHeader))
	if err != nil {
		return auth, invalid("invalid %s header: %v", registry.AuthHeader, err)
	}
	return auth, nil
}

// decodeRegistryAuth decodes base64 of JSON: the URL alphabet by definition, the other one by some clients, padded or not.
func decodeRegistryAuth(header string) (triton.RegistryAuth, error) {
	if header == "" {
		return triton.RegistryAuth{}, nil
	}
	if len(header) > maxAuthHeader {
		return triton.RegistryAuth{}, invalid("longer than %d bytes", maxAuthHeader)
	}
	text := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(header, "="))
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return triton.RegistryAuth{}, invalid("%v", err)
	}
	var a registry.AuthConfig
	if err := json.Unmarshal(raw, &a); err != nil {
		return triton.RegistryAuth{}, invalid("%v", err)
	}
	return authOf(a)
}

// authOf takes user and password out of the combined field where a client sends only that.
func authOf(a registry.AuthConfig) (triton.RegistryAuth, error) {
	if a.Auth != "" && a.Username == "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return triton.RegistryAuth{}, invalid("auth: %v", err)
		}
		user, password, ok := strings.Cut(string(raw), ":")
		if !ok {
			return triton.RegistryAuth{}, invalid("auth: must be user:password in base64")
		}
		a.Username, a.Password = user, strings.TrimRight(password, "\x00")
	}
	return triton.RegistryAuth{
		Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken,
		RegistryToken: a.RegistryToken, ServerAddress: a.ServerAddress,
	}, nil
}

// loginRegistry is POST /auth.
func (s *Server) loginRegistry(ctx context.Context, c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	tree, err := decodeTree(raw)
	if err != nil {
		return err
	}
	var a registry.AuthConfig
	if err := decodeTyped(tree, &a); err != nil {
		return err
	}
	auth, err := authOf(a)
	if err != nil {
		return err
	}
	token, err := s.Backend.Login(ctx, auth)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token})
}

// inspectDistribution is GET /distribution/NAME/json.
func (s *Server) inspectDistribution(ctx context.Context, c *call) error {
	auth, err := c.registryAuth()
	if err != nil {
		return err
	}
	im, err := s.Backend.InspectRemote(ctx, c.vars["name"], auth)
	if err != nil {
		return err
	}
	resp := registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: im.MediaType, Digest: digest.Digest(im.Digest), Size: im.Size},
		Platforms:  []ocispec.Platform{},
	}
	for _, p := range im.Platforms {
		resp.Platforms = append(resp.Platforms, ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion})
	}
	return c.json(http.StatusOK, resp)
}

// pullImage is POST /images/create?fromImage=.
func (s *Server) pullImage(ctx context.Context, c *call) error {
	auth, err := c.registryAuth()
	if err != nil {
		return err
	}
	ref, err := pullRef(c.query.Get("fromImage"), c.query.Get("tag"))
	if err != nil {
		return err
	}
	out := &progressStream{c: c}
	defer out.close()
	err = s.Backend.PullImage(ctx, c.tenant, triton.PullRequest{Ref: ref, Platform: c.query.Get("platform"), Auth: auth}, out.emit)
	s.imagesChanged()
	return s.endStream(c, out, "pull", err)
}

// pullRef joins a name and a tag or digest; a name without either means all tags.
func pullRef(image, tag string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", invalid("invalid reference format: %v", err)
	}
	if tag == "" {
		return ref.String(), nil
	}
	bare := reference.TrimNamed(ref)
	if d, err := digest.Parse(tag); err == nil {
		byDigest, err := reference.WithDigest(bare, d)
		if err != nil {
			return "", invalid("%v", err)
		}
		return byDigest.String(), nil
	}
	tagged, err := reference.WithTag(bare, tag)
	if err != nil {
		return "", invalid("%v", err)
	}
	return tagged.String(), nil
}

// pushImage is POST /images/NAME/push.
func (s *Server) pushImage(ctx context.Context, c *call) error {
	auth, err := c.registryAuth()
	if err != nil {
		return err
	}
	ref, err := pullRef(c.vars["name"], c.query.Get("tag"))
	if err != nil {
		return err
	}
	const platformSince = 46
	platform := ""
	if text := c.query.Get("platform"); text != "" && c.version >= platformSince {
		if platform, err = platformJSON(text); err != nil {
			return err
		}
	}
	out := &progressStream{c: c}
	defer out.close()
	err = s.Backend.PushImage(ctx, c.tenant, triton.PushRequest{Ref: ref, Platform: platform, Auth: auth}, out.emit)
	s.imagesChanged()
	return s.endStream(c, out, "push", err)
}

// progressStream writes progress as JSON lines, and begins the response with the first.
type progressStream struct {
	c   *call
	out *flusher
	enc *json.Encoder
}

// progressLine is jsonstream.Message, whose empty progressDetail older clients expect.
type progressLine struct {
	Status   string               `json:"status,omitempty"`
	Progress *jsonstream.Progress `json:"progressDetail,omitempty"`
	ID       string               `json:"id,omitempty"`
	Stream   string               `json:"stream,omitempty"`
	Aux      any                  `json:"aux,omitempty"`
}

// pushAux is what clients learn about a pushed tag.
type pushAux struct {
	Tag    string
	Digest string
	Size   int64
}

func (p *progressStream) write(v any) error {
	if p.enc == nil {
		p.c.w.Header().Set("Content-Type", "application/json")
		p.c.w.WriteHeader(http.StatusOK)
		p.out = newFlusher(p.c.w)
		p.enc = json.NewEncoder(p.out)
		p.enc.SetEscapeHTML(false)
	}
	return p.enc.Encode(v)
}

func (p *progressStream) emit(l triton.ImageProgress) error {
	line := progressLine{ID: l.ID, Status: l.Status}
	if l.ID != "" {
		line.Progress = &jsonstream.Progress{Current: l.Current, Total: l.Total}
	}
	if err := p.write(line); err != nil {
		return err
	}
	if l.Pushed == nil {
		return nil
	}
	return p.write(progressLine{Progress: &jsonstream.Progress{}, Aux: pushAux(*l.Pushed)})
}

func (p *progressStream) begun() bool { return p.enc != nil }

func (p *progressStream) close() {
	if p.out != nil {
		p.out.close()
	}
}

// endStream turns an error into the response, or into the stream's last line once that has begun.
func (s *Server) endStream(c *call, out *progressStream, what string, err error) error {
	if err == nil || !out.begun() {
		return err
	}
	s.Log.Info("image "+what+" failed", "tenant", c.tenant, "err", err)
	return out.write(streamError(err))
}
