package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	defaultPoolSize = 4
	maxInstance     = 63
	// minMTU is what every IPv4 link must carry (RFC 791).
	minMTU, maxMTU = 68, 65535
)

// Config says what Open makes.
type Config struct {
	Instance string       // names everything in the kernel
	Subnet   netip.Prefix // IPv4, for example 172.30.0.0/16; the first address is the gateway's
	RunRoot  string       // absolute; namespaces are pinned below it
	PoolSize int          // idle endpoints kept ready; 0: 4
	MTU      int          // bytes; 0: as the interface of the default route, 1500 where there is none
	DNS      []string     // resolvers of containers instead of the host's
	Log      *slog.Logger // nil: nothing is logged
}

// withDefaults checks c, naming all mistakes at once, and fills in what is left out.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Instance == "" || len(c.Instance) > maxInstance || strings.ContainsFunc(c.Instance, notInInstance) {
		bad("instance %q: must have 1 to %d letters, digits, dots, dashes or underscores", c.Instance, maxInstance)
	}
	if !c.Subnet.IsValid() || !c.Subnet.Addr().Is4() || c.Subnet.Bits() < 8 || c.Subnet.Bits() > 29 {
		bad("subnet %s: must be IPv4 with a length of 8 to 29", c.Subnet)
	}
	if !filepath.IsAbs(c.RunRoot) {
		bad("run root %q: must be absolute", c.RunRoot)
	}
	if c.PoolSize < 0 || c.PoolSize > slots {
		bad("pool size %d: must be 0 to %d", c.PoolSize, slots)
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		bad("mtu %d: must be %d to %d", c.MTU, minMTU, maxMTU)
	}
	for _, s := range c.DNS {
		if _, err := netip.ParseAddr(s); err != nil {
			bad("dns %q: must be an address", s)
		}
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("network: %w: %w", errors.Join(errs...), errdefs.ErrInvalidArgument)
	}
	c.Subnet = c.Subnet.Masked()
	if c.PoolSize == 0 {
		c.PoolSize = defaultPoolSize
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func notInInstance(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
}
