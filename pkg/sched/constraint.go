package sched

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// Kind says what a Constraint looks at.
type Kind uint8

// The kinds of Constraint.
const (
	OnNode           Kind = iota // constraint:node==NAME
	OnNodeLabel                  // constraint:KEY==VALUE
	WithContainer                // affinity:container==NAME or id
	WithImage                    // affinity:image==NAME: the node holds the image
	WithLabel                    // affinity:KEY==VALUE: a container with this label runs there
	constraintPrefix = "constraint:"
	affinityPrefix   = "affinity:"
)

// Constraint is one affinity or constraint in the syntax of Docker Swarm (standalone):
//
//	constraint:KEY OP VALUE      KEY is node or a label of nodes
//	affinity:KEY OP VALUE        KEY is container, image or a label of containers
//
// OP is == or != for hard ones, ==~ or !=~ for soft ones, that only cost. VALUE is exact, a glob, or /a regular expression/.
type Constraint struct {
	Kind  Kind
	Key   string // of the label kinds
	Not   bool
	Soft  bool
	Value string
	re    *regexp.Regexp
	glob  bool
}

// maxConstraint bounds one constraint, and with it the regular expression in it.
const maxConstraint = 1024

// ParseConstraint reads one constraint. Errors are of the kind errdefs.ErrInvalidArgument.
func ParseConstraint(text string) (Constraint, error) {
	c, err := parseConstraint(text)
	if err != nil {
		return Constraint{}, fmt.Errorf("constraint %.80q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

func parseConstraint(text string) (c Constraint, err error) {
	if len(text) > maxConstraint {
		return c, fmt.Errorf("longer than %d bytes", maxConstraint)
	}
	rest, affinity := strings.CutPrefix(text, affinityPrefix)
	if !affinity {
		var ok bool
		if rest, ok = strings.CutPrefix(text, constraintPrefix); !ok {
			return c, fmt.Errorf("does not begin with %s or %s", constraintPrefix, affinityPrefix)
		}
	}
	at := strings.IndexAny(rest, "=!")
	if at < 1 || at+2 > len(rest) || rest[at+1] != '=' {
		return c, fmt.Errorf("no operator ==, !=, ==~ or !=~ after a key")
	}
	key, value := strings.TrimSpace(rest[:at]), rest[at+2:]
	c.Not = rest[at] == '!'
	value, c.Soft = strings.CutPrefix(value, "~")
	c.Value = strings.TrimSpace(value)
	if !validKey(key) {
		return c, fmt.Errorf("key %q: only letters, digits and . - _ / are allowed", key)
	}
	if c.Value == "" {
		return c, fmt.Errorf("no value")
	}
	c.Kind, c.Key = kindOf(affinity, key)
	return c, c.compile()
}

func validKey(key string) bool {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r) {
			return false
		}
	}
	return key != ""
}

func kindOf(affinity bool, key string) (Kind, string) {
	switch {
	case !affinity && key == "node":
		return OnNode, ""
	case !affinity:
		return OnNodeLabel, key
	case key == "container":
		return WithContainer, ""
	case key == "image":
		return WithImage, ""
	}
	return WithLabel, key
}

func (c *Constraint) compile() (err error) {
	if len(c.Value) > 2 && c.Value[0] == '/' && c.Value[len(c.Value)-1] == '/' {
		c.re, err = regexp.Compile(c.Value[1 : len(c.Value)-1])
		return err
	}
	if c.glob = strings.ContainsAny(c.Value, `*?[\`); c.glob {
		_, err = path.Match(c.Value, "")
	}
	return err
}

// matches reports whether text is what the value names, whatever Not says.
func (c *Constraint) matches(text string) bool {
	switch {
	case c.re != nil:
		return c.re.MatchString(text)
	case c.glob:
		// path.Match keeps * from crossing slashes, which image names have; try both.
		ok, _ := path.Match(c.Value, text)
		if !ok && strings.Contains(text, "/") {
			ok, _ = path.Match(c.Value, strings.ReplaceAll(text, "/", "-"))
		}
		return ok
	}
	return c.Value == text
}

// exact reports whether the constraint names one value that a node must have, so that an index can be asked.
func (c *Constraint) exact() bool { return !c.Not && !c.Soft && c.re == nil && !c.glob }

// String gives the constraint in the syntax it is parsed from.
func (c Constraint) String() string {
	prefix, key := affinityPrefix, c.Key
	switch c.Kind {
	case OnNode:
		prefix, key = constraintPrefix, "node"
	case OnNodeLabel:
		prefix = constraintPrefix
	case WithContainer:
		key = "container"
	case WithImage:
		key = "image"
	}
	op := "=="
	if c.Not {
		op = "!="
	}
	if c.Soft {
		op += "~"
	}
	return prefix + key + op + c.Value
}

// MarshalText and UnmarshalText make a Constraint a JSON string.
func (c Constraint) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (c *Constraint) UnmarshalText(b []byte) (err error) {
	*c, err = ParseConstraint(string(b))
	return err
}

// Labels that carry constraints as a JSON array of strings without prefix, as Swarm had them.
const (
	affinitiesLabel  = "com.docker.swarm.affinities"
	constraintsLabel = "com.docker.swarm.constraints"
)

// maxConstraints bounds those of one container: each may look at all containers.
const maxConstraints = 64

// Constraints collects the constraints of a container from its environment (entries constraint:... and affinity:...) and from
// the labels com.docker.swarm.affinities and com.docker.swarm.constraints.
func Constraints(env []string, labels map[string]string) ([]Constraint, error) {
	var texts []string
	for _, e := range env {
		if strings.HasPrefix(e, affinityPrefix) || strings.HasPrefix(e, constraintPrefix) {
			texts = append(texts, e)
		}
	}
	for _, l := range []struct{ label, prefix string }{{affinitiesLabel, affinityPrefix}, {constraintsLabel, constraintPrefix}} {
		var list []string
		value, ok := labels[l.label]
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return nil, fmt.Errorf("label %s: %w: %w", l.label, err, errdefs.ErrInvalidArgument)
		}
		for _, text := range list {
			texts = append(texts, l.prefix+text)
		}
	}
	if len(texts) > maxConstraints {
		return nil, fmt.Errorf("%d constraints: at most %d are allowed: %w", len(texts), maxConstraints, errdefs.ErrInvalidArgument)
	}
	out := make([]Constraint, 0, len(texts))
	for _, text := range texts {
		c, err := ParseConstraint(text)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
