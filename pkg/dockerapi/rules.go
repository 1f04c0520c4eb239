package dockerapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A rule says what becomes of one field of a request body. There is one for every field that the API's types have, and a
// test that says so; a field without a rule is refused by name unless it is zero. Nothing is silently ignored.
type rule struct {
	kind ruleKind
	// also are JSON texts that are accepted besides zero; for kind refused.
	also []string
	// why is the reason for harmless, and the hint for refused.
	why string
}

type ruleKind int

const (
	// mapped fields reach triton.Spec, or are checked against it by the mapper.
	mapped ruleKind = iota
	// answered fields are refused by the mapper in docker's words, which do not begin with the field's name.
	answered
	// harmless fields have no effect on a container under docker on Linux either.
	harmless
	// refused fields must be zero, or one of rule.also.
	refused
)

// ruleTable maps the path of a field to its rule. "A.B" is a member, "A[].B" a member of a list's elements, "A{}.B" of a
// map's values. A rule covers everything below it.
type ruleTable map[string]rule

// ruleNode is a ruleTable as a tree. Names are matched as encoding/json does it, without regard to case: a field in
// other letters is the same field to the decoder behind the rules.
type ruleNode struct {
	name    string // as documented; for messages
	rule    *rule  // nil: look below
	members map[string]*ruleNode
	elem    *ruleNode // of a list or a map's values
	isMap   bool
}

func buildRules(table ruleTable) *ruleNode {
	root := &ruleNode{}
	for path, r := range table {
		node := root
		for _, part := range strings.Split(path, ".") {
			name := strings.TrimRight(part, "[]{}")
			node = node.member(name)
			if suffix := part[len(name):]; suffix != "" {
				if node.elem == nil {
					node.elem = &ruleNode{name: suffix}
				}
				node.isMap = suffix == "{}"
				node = node.elem
			}
		}
		node.rule = &r
	}
	return root
}

func (n *ruleNode) member(name string) *ruleNode {
	if n.members == nil {
		n.members = make(map[string]*ruleNode)
	}
	key := strings.ToLower(name)
	if n.members[key] == nil {
		n.members[key] = &ruleNode{name: name}
	}
	return n.members[key]
}

// check walks a decoded JSON value and returns the first field, in alphabetical order, that the rules refuse.
func (n *ruleNode) check(v any, path string) error {
	if n.rule != nil {
		return n.rule.check(v, path)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			child, at := n.child(key), join(path, key)
			if n.isMap {
				child, at = n.elem, path+"["+key+"]"
			}
			if child == nil {
				if !isZeroJSON(v[key]) {
					return invalid("%s: this version of triton does not know the field", at)
				}
				continue
			}
			if !n.isMap {
				at = join(path, child.name)
			}
			if err := child.check(v[key], at); err != nil {
				return err
			}
		}
	case []any:
		if n.elem == nil || n.isMap {
			return invalid("invalid JSON: %s: a list is not expected here", path)
		}
		for i, e := range v {
			if err := n.elem.check(e, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	default:
		if !isZeroJSON(v) {
			return invalid("invalid JSON: %s: unexpected %s", path, brief(v))
		}
	}
	return nil
}

func (n *ruleNode) child(key string) *ruleNode { return n.members[strings.ToLower(key)] }

func (r *rule) check(v any, path string) error {
	if r.kind != refused || isZeroJSON(v) || slices.Contains(r.also, brief(v)) {
		return nil
	}
	msg := fmt.Sprintf("%s: %s is not supported by this version of triton", path, brief(v))
	if r.why != "" {
		msg += ": " + r.why
	}
	return invalid("%s", msg)
}

// isZeroJSON reports whether a value says nothing: null, false, 0, "", an empty list, or an object of such members.
func isZeroJSON(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, member := range v {
			if !isZeroJSON(member) {
				return false
			}
		}
		return true
	}
	return false
}

// brief is the compact JSON of v, cut to a length that fits an error message.
func brief(v any) string {
	const most = 80
	raw, err := json.Marshal(v)
	if err != nil {
		return "value"
	}
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
