package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/tritond/triton/pkg/shim/filter"
)

// orderVersion is that of struct order in cmd/triton-enter/enter.c. A program of another version refuses the order.
const orderVersion = 1

// orderList is struct list: n things from offset at.
type orderList struct{ At, N uint32 }

// order is struct order of cmd/triton-enter/enter.c, field by field, in this machine's byte order. Offsets count from the
// start of the order; a string's offset of 0 is none.
type order struct {
	Version, Size, Flags, Namespaces uint32
	UID, GID                         uint32
	Rows, Columns                    uint32
	Tasks                            uint32
	FilterFlags                      uint32
	Cwd, Keyring, OOMScoreAdj        uint32
	_                                uint32

	Bounding, Effective, Permitted, Inheritable, Ambient uint64

	Groups, Rlimits, Filter, Args, Env, Programs orderList
}

// Flags of an order: enum order_flags.
const (
	orderTerminal = 1 << iota
	orderNoNewPrivs
	orderHome
	orderSearch
)

// orderRlimit is struct rlimit_order.
type orderRlimit struct {
	Kind, _    uint32
	Soft, Hard uint64
}

// orderText is what follows the struct.
type orderText struct{ b []byte }

func (t *orderText) offset() uint32 { return uint32(binary.Size(order{}) + len(t.b)) }

// str appends a string with its end.
func (t *orderText) str(s string) uint32 {
	at := t.offset()
	t.b = append(append(t.b, s...), 0)
	return at
}

// list appends fixed-size values, aligned for any of them.
func (t *orderText) list(n int, values any) (orderList, error) {
	for t.offset()%8 != 0 {
		t.b = append(t.b, 0)
	}
	l := orderList{At: t.offset(), N: uint32(n)}
	var err error
	t.b, err = binary.Append(t.b, binary.NativeEndian, values)
	return l, err
}

func (t *orderText) strs(list []string) (orderList, error) {
	offsets := make([]uint32, len(list))
	for i, s := range list {
		offsets[i] = t.str(s)
	}
	return t.list(len(list), offsets)
}

// encodeOrder writes the order for p in a container with cfg. tasks is how many files of control groups come with it.
func encodeOrder(cfg *configs.Config, id string, p *libcontainer.Process, program filter.Program, tasks int) ([]byte, error) {
	env, err := orderEnv(p.Env)
	if err != nil {
		return nil, err
	}
	var t orderText
	o := order{
		Version: orderVersion, Namespaces: namespaceFlags(cfg.Namespaces), UID: uint32(p.UID), GID: uint32(p.GID),
		Tasks: uint32(tasks), FilterFlags: program.Flags, Cwd: t.str(p.Cwd),
	}
	if !cfg.NoNewKeyring {
		o.Keyring = t.str("_ses." + id)
	}
	if cfg.OomScoreAdj != nil {
		o.OOMScoreAdj = t.str(fmt.Sprint(*cfg.OomScoreAdj))
	}
	if p.ConsoleSocket != nil {
		o.Flags |= orderTerminal
		o.Rows, o.Columns = uint32(p.ConsoleHeight), uint32(p.ConsoleWidth)
	}
	if p.NoNewPrivileges != nil && *p.NoNewPrivileges {
		o.Flags |= orderNoNewPrivs
	}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		o.Flags |= orderHome
	}
	programs, search := programPaths(p.Args[0], env)
	if search {
		o.Flags |= orderSearch
	}
	o.capabilities(p, cfg)
	return o.encode(&t, p, cfg, program, orderLists{env: env, programs: programs})
}

// orderLists are the lists of strings that were made for an order.
type orderLists struct{ env, programs []string }

func (o *order) encode(t *orderText, p *libcontainer.Process, cfg *configs.Config, program filter.Program, l orderLists) ([]byte, error) {
	groups := make([]uint32, len(p.AdditionalGroups))
	for i, g := range p.AdditionalGroups {
		groups[i] = uint32(g)
	}
	limits := p.Rlimits
	if len(limits) == 0 {
		limits = cfg.Rlimits
	}
	rlimits := make([]orderRlimit, len(limits))
	for i, r := range limits {
		rlimits[i] = orderRlimit{Kind: uint32(r.Type), Soft: r.Soft, Hard: r.Hard}
	}
	var errs [6]error
	o.Groups, errs[0] = t.list(len(groups), groups)
	o.Rlimits, errs[1] = t.list(len(rlimits), rlimits)
	o.Filter, errs[2] = t.list(len(program.Instructions), program.Instructions)
	o.Args, errs[3] = t.strs(p.Args)
	o.Env, errs[4] = t.strs(l.env)
	o.Programs, errs[5] = t.strs(l.programs)
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("order: %w", err)
		}
	}
	o.Size = t.offset()
	b, err := binary.Append(nil, binary.NativeEndian, o)
	return append(b, t.b...), err
}

// orderEnv is libcontainer's prepareEnv: of variables set twice the last one holds, an empty HOME counts as none.
func orderEnv(env []string) ([]string, error) {
	out := make([]string, 0, len(env))
	seen := make(map[string]bool, len(env))
	for _, e := range slices.Backward(env) {
		name, value, set := strings.Cut(e, "=")
		switch {
		case !set:
			return nil, errors.New("invalid environment variable: missing '='")
		case name == "":
			return nil, errors.New("invalid environment variable: name cannot be empty")
		case seen[name]:
			continue
		case strings.IndexByte(e, 0) >= 0:
			return nil, fmt.Errorf("invalid environment variable %q: contains nul byte (\\x00)", name)
		}
		seen[name] = true
		if name != "HOME" || value != "" {
			out = append(out, e)
		}
	}
	slices.Reverse(out)
	return out, nil
}

// programPaths are the files that a command may mean, as in exec.LookPath; search: they come from PATH.
func programPaths(command string, env []string) (paths []string, search bool) {
	if strings.Contains(command, "/") {
		return []string{command}, false
	}
	for _, e := range env {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok || command == "" || command == "." || command == ".." {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if dir == "" {
				dir = "."
			}
			paths = append(paths, filepath.Join(dir, command))
		}
	}
	return paths, true
}

// namespaceFlags are those of a container's own and joined namespaces, for setns.
func namespaceFlags(all configs.Namespaces) (flags uint32) {
	for _, ns := range all {
		flags |= uint32(ns.Syscall())
	}
	return flags
}

// capabilities fills in the sets. Names that this kernel does not know are left out, as in libcontainer.
func (o *order) capabilities(p *libcontainer.Process, cfg *configs.Config) {
	sets := p.Capabilities
	if sets == nil {
		sets = cfg.Capabilities
	}
	if sets == nil {
		sets = &configs.Capabilities{}
	}
	bits := map[string]uint64{}
	for _, c := range capability.ListKnown() {
		bits["CAP_"+strings.ToUpper(c.String())] = 1 << uint(c)
	}
	mask := func(names []string) (m uint64) {
		for _, n := range names {
			m |= bits[n]
		}
		return m
	}
	o.Bounding, o.Effective, o.Permitted = mask(sets.Bounding), mask(sets.Effective), mask(sets.Permitted)
	o.Inheritable, o.Ambient = mask(sets.Inheritable), mask(sets.Ambient)
}
