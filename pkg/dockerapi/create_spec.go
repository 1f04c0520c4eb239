package dockerapi

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"github.com/tritond/triton/pkg/triton"
)

// createRequest is a body of create, with what today's types have no longer.
type createRequest struct {
	container.CreateRequest
	mac string
}

// decodeCreate reads a create body: any JSON in, a request whose every field the rules accept out.
func decodeCreate(raw []byte, rules *ruleNode) (*createRequest, error) {
	tree, err := decodeTree(raw)
	if err != nil {
		return nil, err
	}
	if err := rules.check(tree, ""); err != nil {
		return nil, err
	}
	listOfOne(tree, "Cmd", "Entrypoint")
	if object, ok := tree.(map[string]any); ok {
		listOfOne(object["HostConfig"], "CapAdd", "CapDrop")
	}
	req := &createRequest{}
	if err := decodeTyped(tree, &req.CreateRequest); err != nil {
		return nil, err
	}
	var older struct{ MacAddress string }
	if err := decodeTyped(tree, &older); err != nil {
		return nil, err
	}
	req.mac = older.MacAddress
	if req.Config == nil {
		return nil, invalid("config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	return req, nil
}

// listOfOne turns a string into a list of one: docker takes both for these fields.
func listOfOne(tree any, names ...string) {
	object, ok := tree.(map[string]any)
	if !ok {
		return
	}
	for key, v := range object {
		text, isText := v.(string)
		if isText && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, key) }) {
			object[key] = []any{text}
		}
	}
}

// containerResolver finds a container of the caller's tenant.
type containerResolver func(ref string) (triton.ContainerKey, error)

// specOf maps a create request, image defaults not yet merged in. The API version decides what old clients meant.
func specOf(req *createRequest, version apiVersion, resolve containerResolver) (triton.Spec, error) {
	spec := triton.Spec{}
	steps := []func() error{
		func() error { return mapConfig(&spec, req.Config) },
		func() error { return mapHost(&spec, req.HostConfig, version) },
		func() error { return mapSecurity(&spec, req.HostConfig) },
		func() error { return mapResources(&spec, req.HostConfig) },
		func() error { return mapDevices(&spec, req.HostConfig) },
		func() error { return mapMounts(&spec, req.HostConfig) },
		func() error { return mapDeclared(&spec, req.Config) },
		func() error { return mapPorts(&spec, req.HostConfig) },
		func() error { return mapNamespaces(&spec, req.HostConfig, resolve) },
		func() error { return mapNetworking(&spec, req, resolve) },
		func() error { return checkNetworking(&spec) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return triton.Spec{}, err
		}
	}
	return spec, nil
}

// maxHostname is the kernel's __NEW_UTS_LEN (include/uapi/linux/utsname.h).
const maxHostname = 64

func mapConfig(spec *triton.Spec, c *container.Config) error {
	for _, env := range c.Env {
		if name, _, _ := strings.Cut(env, "="); name == "" {
			return invalid("invalid environment variable: %s", env)
		}
	}
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	for what, name := range map[string]string{"hostname": c.Hostname, "domainname": c.Domainname} {
		if len(name) > maxHostname {
			return invalid("%s %q is too long (maximum %d bytes)", what, name, maxHostname)
		}
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return invalid("%v", err)
		}
	}
	var err error
	if spec.Healthcheck, err = healthcheckOf(c.Healthcheck); err != nil {
		return err
	}
	spec.Shell = c.Shell
	spec.Image = c.Image
	spec.NetworkDisabled = c.NetworkDisabled
	spec.Entrypoint, spec.Cmd = c.Entrypoint, c.Cmd
	spec.Env, spec.Labels = c.Env, c.Labels
	if c.WorkingDir != "" {
		spec.WorkingDir = path.Clean(c.WorkingDir)
	}
	spec.User = c.User
	spec.Hostname, spec.Domainname = c.Hostname, c.Domainname
	spec.StopSignal, spec.StopTimeout = c.StopSignal, c.StopTimeout
	spec.TTY, spec.OpenStdin, spec.StdinOnce = c.Tty, c.OpenStdin, c.StdinOnce
	spec.AttachStdin, spec.AttachStdout, spec.AttachStderr = c.AttachStdin, c.AttachStdout, c.AttachStderr
	spec.ExposedPorts = portNames(c.ExposedPorts)
	return nil
}

// portNames are a set of ports as sorted text, as in 80/tcp.
func portNames(ports network.PortSet) []string {
	var names []string
	for port := range ports {
		names = append(names, port.String())
	}
	slices.Sort(names)
	return names
}

// mergeImage fills in what the user left to the image, by docker's rules: an entrypoint of the user's drops the image's
// command, an entrypoint of one empty string means none at all.
func mergeImage(spec *triton.Spec, img *triton.Image) error {
	below := img.Config
	below.Volumes = cleaned(below.Volumes)
	c := spec.ImageConfig().Over(below)
	spec.ImageID = img.ID
	if spec.Entrypoint, spec.Cmd = c.Entrypoint, c.Cmd; len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		spec.Entrypoint = nil
	}
	if len(spec.Argv()) == 0 {
		return invalid("no command specified")
	}
	spec.Env, spec.Labels, spec.User, spec.WorkingDir, spec.StopSignal = c.Env, c.Labels, c.User, c.WorkingDir, c.StopSignal
	spec.ExposedPorts, spec.Volumes, spec.Healthcheck = c.ExposedPorts, c.Volumes, c.Healthcheck
	return nil
}

// cleaned are the VOLUME paths of an image that a volume can be at.
func cleaned(targets []string) []string {
	var list []string
	for _, target := range targets {
		if target = path.Clean(target); path.IsAbs(target) && target != "/" {
			list = append(list, target)
		}
	}
	return list
}

func or(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// containerName is docker's rule for names; a leading slash is allowed and dropped.
var containerName = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func (s *Server) createContainer(ctx context.Context, c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	name := c.query.Get("name")
	if name != "" && !containerName.MatchString(name) {
		return invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	req, err := decodeCreate(raw, s.create)
	if err != nil {
		return err
	}
	spec, err := specOf(req, c.version, func(ref string) (triton.ContainerKey, error) {
		return s.Backend.ResolveContainer(ctx, c.tenant, ref)
	})
	if err != nil {
		return err
	}
	err = inheritMounts(&spec, func(ref string) ([]triton.Mount, error) {
		key, err := s.Backend.ResolveContainer(ctx, c.tenant, ref)
		if err != nil {
			// Not 404, which clients take for a missing image.
			return nil, invalid("HostConfig.VolumesFrom: %v", err)
		}
		other, err := s.Backend.InspectContainer(ctx, key)
		return other.Spec.Mounts, err
	})
	if err != nil {
		return err
	}
	if err := admitSpec(c.tenant, &spec); err != nil {
		return err
	}
	if spec.Image == "" {
		return invalid("Image: no image specified")
	}
	img, err := s.Backend.InspectImage(ctx, c.tenant, spec.Image)
	if err != nil {
		return err
	}
	if err := checkPlatform(c.query.Get("platform"), spec.Image, &img); err != nil {
		return err
	}
	if err := mergeImage(&spec, &img); err != nil {
		return err
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if m.Type != triton.MountImage {
			continue
		}
		shown, err := s.Backend.InspectImage(ctx, c.tenant, m.Source)
		if err != nil {
			return err
		}
		m.ImageID = shown.ID
	}
	key, warnings, err := s.Backend.CreateContainer(ctx, c.tenant, strings.TrimPrefix(name, "/"), spec)
	if err != nil {
		return err
	}
	if warnings == nil {
		warnings = []string{} // clients iterate over it
	}
	return c.json(201, container.CreateResponse{ID: key.ID, Warnings: warnings})
}

// checkPlatform refuses an image of another platform than the ?platform= parameter asks for, with docker's text.
func checkPlatform(want, ref string, img *triton.Image) error {
	if want == "" {
		return nil
	}
	p, err := platforms.Parse(want)
	if err != nil {
		return invalid("invalid platform %q: %v", want, err)
	}
	have := platforms.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant}
	if !platforms.NewMatcher(p).Match(platforms.Normalize(have)) {
		return notFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			ref, platforms.Format(have), platforms.Format(p))
	}
	return nil
}
