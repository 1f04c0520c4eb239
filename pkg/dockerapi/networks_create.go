package dockerapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/tritond/triton/pkg/triton"
)

// networkRules says what becomes of each field of POST /networks/create.
func networkRules() ruleTable {
	const at = "IPAM.Config[]."
	return ruleTable{
		"Name":                    {kind: mapped},
		"Internal":                {kind: mapped},
		"Attachable":              {kind: mapped},
		"Options":                 {kind: mapped},
		"Labels":                  {kind: mapped},
		at + "Subnet":             {kind: mapped},
		at + "IPRange":            {kind: mapped},
		at + "Gateway":            {kind: mapped},
		at + "AuxiliaryAddresses": {kind: mapped},
		"Driver":                  {kind: mapped},
		"Scope":                   {kind: refused, also: []string{`"local"`}, why: "networks are those of one machine"},
		"EnableIPv4":              {kind: refused, also: []string{"true"}, why: "every network has IPv4"},
		"EnableIPv6":              {kind: mapped},
		"IPAM.Driver":             {kind: refused, also: []string{`"default"`}},
		"IPAM.Options":            {kind: refused},
		"Ingress":                 {kind: refused},
		"ConfigOnly":              {kind: refused},
		"ConfigFrom.Network":      {kind: refused},
		// Older clients only.
		"CheckDuplicate": {kind: harmless, why: "names are always unique"},
	}
}

// connectRules says what becomes of each field of POST /networks/{id}/connect.
func connectRules() ruleTable {
	t := ruleTable{"Container": {kind: mapped}}
	for path, r := range endpointRules("EndpointConfig.") {
		t[path] = r
	}
	return t
}

// disconnectRules says what becomes of each field of POST /networks/{id}/disconnect.
func disconnectRules() ruleTable {
	return ruleTable{
		"Container": {kind: mapped},
		"Force":     {kind: harmless, why: "an endpoint is always removed"},
	}
}

// decodeRuled reads a body by its rules.
func decodeRuled(c *call, table ruleTable, into any) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	return decodeRules(raw, table, into)
}

func decodeRules(raw []byte, table ruleTable, into any) error {
	tree, err := decodeTree(raw)
	if err != nil {
		return err
	}
	if err := buildRules(table).check(tree, ""); err != nil {
		return err
	}
	return decodeTyped(tree, into)
}

// networkName is docker's rule.
var validNetworkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (s *Server) createNetwork(ctx context.Context, c *call) error {
	var req network.CreateRequest
	if err := decodeRuled(c, networkRules(), &req); err != nil {
		return err
	}
	spec, err := networkSpec(&req)
	if err != nil {
		return err
	}
	if err := admitNetwork(c.tenant, &spec); err != nil {
		return err
	}
	key, err := s.Backend.CreateNetwork(ctx, c.tenant, spec)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, network.CreateResponse{ID: key.ID})
}

func networkSpec(req *network.CreateRequest) (triton.NetworkSpec, error) {
	spec := triton.NetworkSpec{Name: req.Name, Internal: req.Internal, Attachable: req.Attachable, Labels: req.Labels}
	if !validNetworkName.MatchString(req.Name) {
		return spec, invalid("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", req.Name)
	}
	if err := checkDriver(req.Driver); err != nil {
		return spec, err
	}
	if req.EnableIPv4 != nil && !*req.EnableIPv4 {
		return spec, invalid("EnableIPv4: false is not supported by this version of triton: every network has IPv4")
	}
	if req.EnableIPv6 != nil && *req.EnableIPv6 {
		spec.IPv6 = &triton.Pool{}
	}
	if req.IPAM != nil {
		if err := mapIPAM(&spec, req.IPAM.Config); err != nil {
			return spec, err
		}
	}
	return spec, mapNetworkOptions(&spec, req.Options)
}

// checkDriver refuses all drivers but bridge, in docker's words where it refuses too.
func checkDriver(name string) error {
	switch name {
	case "", "default", "bridge":
		return nil
	case "host", "null":
		return &apiError{errdefs.ErrPermissionDenied, fmt.Sprintf("only one instance of %q network is allowed", name)}
	case "overlay", "macvlan", "ipvlan":
		return invalid("Driver: %q is not supported by this version of triton: bridge is", name)
	}
	return notFound("plugin %q not found", name)
}

// mapIPAM reads at most one subnet of each family.
func mapIPAM(spec *triton.NetworkSpec, configs []network.IPAMConfig) error {
	for i := range configs {
		cfg := &configs[i]
		if !cfg.Subnet.IsValid() {
			if cfg.IPRange.IsValid() || cfg.Gateway.IsValid() || len(cfg.AuxAddress) > 0 {
				return invalid("invalid network config:\ninvalid subnet: invalid CIDR block notation")
			}
			continue
		}
		pool := &spec.Pool
		if cfg.Subnet.Addr().Is6() {
			if pool = spec.IPv6; pool == nil {
				return invalid("invalid network config:\nIPv6 subnet %s: IPv6 is not enabled for the network", cfg.Subnet)
			}
		}
		if pool.Chosen {
			return invalid("IPAM.Config: more than one subnet of a family is not supported by this version of triton")
		}
		if err := checkIPAM(cfg); err != nil {
			return err
		}
		*pool = triton.Pool{Subnet: cfg.Subnet, IPRange: cfg.IPRange, Gateway: cfg.Gateway, Aux: cfg.AuxAddress, Chosen: true}
	}
	return nil
}

func checkIPAM(cfg *network.IPAMConfig) error {
	shortest, longest := 8, 29 // a /30 has no address for a container but one
	if cfg.Subnet.Addr().Is6() {
		shortest, longest = 16, 125
	}
	switch {
	case cfg.Subnet.Masked() != cfg.Subnet:
		return invalid("invalid network config:\ninvalid subnet %s: it should be %s", cfg.Subnet, cfg.Subnet.Masked())
	case cfg.Subnet.Bits() < shortest || cfg.Subnet.Bits() > longest:
		return invalid("IPAM.Config.Subnet: %s: lengths of %d to %d are supported by this version of triton", cfg.Subnet, shortest, longest)
	case cfg.Subnet.Addr().Is6() && !cfg.Subnet.Addr().IsGlobalUnicast() || cfg.Subnet.Addr().Is4In6():
		return invalid("IPAM.Config.Subnet: %s: containers need addresses that are unique: neither link-local, multicast nor IPv4 ones", cfg.Subnet)
	case cfg.IPRange.IsValid() && (cfg.IPRange.Bits() < cfg.Subnet.Bits() || !cfg.Subnet.Contains(cfg.IPRange.Addr())):
		return invalid("invalid network config:\ninvalid ip-range %s: parent subnet %s doesn't contain ip-range", cfg.IPRange, cfg.Subnet)
	case cfg.Gateway.IsValid() && !cfg.Subnet.Contains(cfg.Gateway):
		return invalid("invalid network config:\ninvalid gateway %s: parent subnet %s doesn't contain this address", cfg.Gateway, cfg.Subnet)
	}
	for _, name := range sortedKeys(cfg.AuxAddress) {
		if !cfg.Subnet.Contains(cfg.AuxAddress[name]) {
			return invalid("invalid network config:\ninvalid auxiliary address %s: parent subnet %s doesn't contain this address", name, cfg.Subnet)
		}
	}
	return nil
}

// The options of docker's bridge driver that are honoured.
const (
	optICC        = "com.docker.network.bridge.enable_icc"
	optMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optHostIP     = "com.docker.network.bridge.host_binding_ipv4"
	optMTU        = "com.docker.network.driver.mtu"
	optBridge     = "com.docker.network.bridge.name"
	// optMode4 and optMode6 say how containers are reached from outside: nat is what all networks have.
	optMode4 = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6 = "com.docker.network.bridge.gateway_mode_ipv6"
)

// validLink is what an interface may be called: the kernel takes 15 bytes without space, slash and colon, which are not
// "." or ".."; names that begin with tn, tu, td and tv are the daemon's own.
var validLink = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$`)

func linkName(name string) error {
	if !validLink.MatchString(name) || len(name) > 2 && name[0] == 't' && strings.ContainsRune("nudv", rune(name[1])) {
		return invalid("Options: %s: %q: must be 1 to 15 of a-z, A-Z, 0-9, _ . and -, and not begin with tn, tu, td or tv", optBridge, name)
	}
	return nil
}

func mapNetworkOptions(spec *triton.NetworkSpec, options map[string]string) error {
	spec.Options = options
	for _, name := range sortedKeys(options) {
		value := options[name]
		wrong := invalid("Options: %s: invalid value %q", name, value)
		switch name {
		case optICC, optMasquerade:
			on, err := strconv.ParseBool(value)
			if err != nil {
				return wrong
			}
			if name == optICC {
				spec.NoICC = !on
			} else {
				spec.NoMasquerade = !on
			}
		case optHostIP:
			addr, err := netip.ParseAddr(value)
			if err != nil || !addr.Is4() {
				return wrong
			}
			spec.HostIP = addr
		case optMTU:
			const least, most = 68, 65535 // of IPv4, and of a veth
			mtu, err := strconv.Atoi(value)
			if err != nil || mtu < least || mtu > most {
				return wrong
			}
			spec.MTU = mtu
		case optBridge:
			if err := linkName(value); err != nil {
				return err
			}
			spec.Bridge = value
		case optMode4, optMode6:
			if value != "nat" {
				return invalid("Options: %s: %q is not supported by this version of triton: nat is", name, value)
			}
		default:
			return invalid("Options: %s is not supported by this version of triton", name)
		}
	}
	return nil
}

func (s *Server) connectNetwork(ctx context.Context, c *call) error {
	var req network.ConnectRequest
	if err := decodeRuled(c, connectRules(), &req); err != nil {
		return err
	}
	ref, key, err := s.networkAndContainer(ctx, c, req.Container)
	if err != nil {
		return err
	}
	m, err := membershipOf(ref, req.EndpointConfig)
	if err != nil {
		return err
	}
	if err := admitMembership(key.Tenant, &m); err != nil {
		return err
	}
	if err := s.Backend.ConnectNetwork(ctx, key, m); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// networkAndContainer finds the network of the path and a container that the body names.
func (s *Server) networkAndContainer(ctx context.Context, c *call, container string) (ref string, key triton.ContainerKey, err error) {
	if ref, err = s.networkRef(ctx, c.tenant, c.vars["id"]); err != nil {
		return "", key, err
	}
	key, err = s.named(ctx, c, container)
	return ref, key, err
}

func (s *Server) disconnectNetwork(ctx context.Context, c *call) error {
	var req network.DisconnectRequest
	if err := decodeRuled(c, disconnectRules(), &req); err != nil {
		return err
	}
	ref, key, err := s.networkAndContainer(ctx, c, req.Container)
	if err != nil {
		return err
	}
	if err := s.Backend.DisconnectNetwork(ctx, key, ref); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) removeNetwork(ctx context.Context, c *call) error {
	ref, err := s.networkRef(ctx, c.tenant, c.vars["id"])
	if err != nil {
		return err
	}
	if err := s.Backend.RemoveNetwork(ctx, c.tenant, ref); err != nil {
		return err
	}
	return c.noContent()
}

// membershipOf reads what an endpoint's settings ask for. ref is a network's name or id.
func membershipOf(ref string, ep *network.EndpointSettings) (triton.Membership, error) {
	m := triton.Membership{Network: ref, Name: ref}
	if ep == nil {
		return m, nil
	}
	m.Priority = ep.GwPriority
	m.Aliases = append(m.Aliases, ep.Aliases...) // none is none, be it null or an empty list
	for _, alias := range ep.Aliases {
		if strings.ContainsAny(alias, " \t\r\n") || alias == "" {
			return m, invalid("invalid endpoint settings:\ninvalid alias %q", alias)
		}
	}
	for _, link := range ep.Links {
		name, alias, err := parseLink(link)
		if err != nil {
			return m, err
		}
		m.Links = append(m.Links, name+":"+alias)
	}
	if len(ep.MacAddress) > 0 {
		var err error
		if m.MAC, err = unicastMAC(ep.MacAddress.String()); err != nil {
			return m, err
		}
	}
	if ep.IPAMConfig != nil {
		m.Address = ep.IPAMConfig.IPv4Address.Unmap()
		if m.Address.IsValid() && !m.Address.Is4() {
			return m, invalid("invalid IPv4 address: %s", m.Address)
		}
		m.Address6 = ep.IPAMConfig.IPv6Address
		if m.Address6.IsValid() && (m.Address6.Unmap().Is4() || m.Address6.Zone() != "") {
			return m, invalid("invalid IPv6 address: %s", m.Address6)
		}
	}
	if err := mapEndpointOptions(&m, ep.DriverOpts); err != nil {
		return m, err
	}
	if ref == triton.ModeBridge {
		switch {
		case m.Address.IsValid() || m.Address6.IsValid():
			return m, invalid("invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
		case len(m.Aliases) > 0:
			return m, invalid("invalid config for network bridge: invalid endpoint settings:\n" +
				"network-scoped alias is supported only for containers in user defined networks")
		case len(m.Links) > 0:
			return m, invalid("EndpointsConfig[bridge].Links is not supported by this version of triton: use HostConfig.Links")
		}
	}
	return m, nil
}

// parseLink reads name or name:alias.
func parseLink(text string) (name, alias string, err error) {
	name, alias, _ = strings.Cut(text, ":")
	name = strings.TrimPrefix(name, "/")
	if i := strings.LastIndex(alias, "/"); i >= 0 { // as inspect shows it: /db:/web/alias
		alias = alias[i+1:]
	}
	if alias == "" {
		alias = name
	}
	if name == "" || strings.ContainsAny(text, " \t\r\n") {
		return "", "", invalid("bad format for links: %s", text)
	}
	return name, alias, nil
}

func (s *Server) pruneNetworks(ctx context.Context, c *call) error {
	prunable, err := s.pruneFilter(c)
	if err != nil {
		return err
	}
	gone, err := s.Backend.PruneNetworks(ctx, c.tenant, func(n triton.NetworkInfo) bool {
		return prunable(n.Spec.Labels, n.Created)
	})
	if err != nil {
		return fmt.Errorf("prune networks: %w", err)
	}
	return c.json(http.StatusOK, network.PruneReport{NetworksDeleted: gone})
}
