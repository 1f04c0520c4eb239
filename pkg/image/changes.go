package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"
)

// badChange reports a change that is no Dockerfile line, or one that says nothing about a config.
func badChange(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// applyChanges applies Dockerfile lines to a config, as the option --change of docker import and commit allows them. As in a
// Dockerfile, an entrypoint drops the command, unless a line before it set that.
func applyChanges(c *dockerspec.DockerOCIImageConfig, changes []string) error {
	commanded := false
	text := strings.ReplaceAll(strings.Join(changes, "\n"), "\\\n", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		instruction, args := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			instruction, args = line[:i], strings.TrimSpace(line[i:])
		}
		if args == "" {
			return badChange("%s requires at least one argument", strings.ToUpper(instruction))
		}
		instruction = strings.ToUpper(instruction)
		if err := applyChange(c, instruction, args); err != nil {
			return err
		}
		if commanded = commanded || instruction == "CMD"; instruction == "ENTRYPOINT" && !commanded {
			c.Cmd = nil
		}
	}
	return nil
}

// applyChange applies one instruction. Variables in args are those of c.Env.
func applyChange(c *dockerspec.DockerOCIImageConfig, instruction, args string) error {
	switch instruction {
	case "CMD":
		c.Cmd = command(args)
		return nil
	case "ENTRYPOINT":
		c.Entrypoint = command(args)
		return nil
	case "HEALTHCHECK":
		return changeHealthcheck(c, args)
	case "ONBUILD":
		switch trigger, _, _ := strings.Cut(strings.ToUpper(args), " "); trigger {
		case "ONBUILD", "FROM", "MAINTAINER":
			return badChange("%s isn't allowed as an ONBUILD trigger", trigger)
		}
		c.OnBuild = append(c.OnBuild, args)
		return nil
	}
	words, err := splitWords(args, c.Env)
	if err != nil {
		return badChange("%s: %v", instruction, err)
	}
	switch instruction {
	case "ENV":
		return eachPair(instruction, args, words, func(k, v string) { c.Env = setEnv(c.Env, k, v) })
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		return eachPair(instruction, args, words, func(k, v string) { c.Labels[k] = v })
	case "EXPOSE":
		return expose(c, words)
	case "VOLUME":
		return addVolumes(c, args, words)
	}
	if len(words) != 1 && (instruction == "USER" || instruction == "WORKDIR" || instruction == "STOPSIGNAL") {
		return badChange("%s requires exactly one argument", instruction)
	}
	switch instruction {
	case "USER":
		c.User = words[0]
	case "WORKDIR":
		c.WorkingDir = path.Join("/", c.WorkingDir, words[0])
		if path.IsAbs(words[0]) {
			c.WorkingDir = path.Clean(words[0])
		}
	case "STOPSIGNAL":
		if _, err := signal.ParseSignal(words[0]); err != nil {
			return badChange("%v", err)
		}
		c.StopSignal = words[0]
	default:
		return badChange("%s is not a valid change command", strings.ToLower(instruction))
	}
	return nil
}

// changeHealthcheck reads "NONE", or options and "CMD" with a command.
func changeHealthcheck(c *dockerspec.DockerOCIImageConfig, args string) error {
	var check dockerspec.HealthcheckConfig
	durations := map[string]*time.Duration{
		"interval": &check.Interval, "timeout": &check.Timeout, "start-period": &check.StartPeriod, "start-interval": &check.StartInterval,
	}
	for strings.HasPrefix(args, "--") {
		option, rest, _ := strings.Cut(args, " ")
		args = strings.TrimSpace(rest)
		name, value, _ := strings.Cut(option[2:], "=")
		var err error
		switch d := durations[name]; {
		case d != nil:
			if *d, err = time.ParseDuration(value); err == nil && *d != 0 && *d < time.Millisecond {
				err = fmt.Errorf("%s cannot be less than 1ms", value)
			}
		case name == "retries":
			if check.Retries, err = strconv.Atoi(value); err == nil && check.Retries < 0 {
				err = fmt.Errorf("%s is negative", value)
			}
		default:
			err = errors.New("unknown flag")
		}
		if err != nil {
			return badChange("HEALTHCHECK: --%s: %v", name, err)
		}
	}
	kind, rest, _ := strings.Cut(args, " ")
	rest = strings.TrimSpace(rest)
	switch kind = strings.ToUpper(kind); {
	case kind == "NONE" && rest == "" && check.Interval|check.Timeout|check.StartPeriod|check.StartInterval|time.Duration(check.Retries) == 0:
		check.Test = []string{kind}
	case kind == "NONE":
		return badChange("HEALTHCHECK NONE takes no arguments")
	case kind != "CMD":
		return badChange("Unknown type %q in HEALTHCHECK (try CMD)", kind)
	default:
		var words []string
		if !strings.HasPrefix(rest, "[") || json.Unmarshal([]byte(rest), &words) != nil {
			kind, words = "CMD-SHELL", []string{rest}
		}
		if len(words) == 0 || rest == "" {
			return badChange("Missing command after HEALTHCHECK CMD")
		}
		check.Test = append([]string{kind}, words...)
	}
	c.Healthcheck = &check
	return nil
}

// command reads a JSON list of strings, or a line for the shell.
func command(args string) []string {
	var list []string
	if strings.HasPrefix(args, "[") && json.Unmarshal([]byte(args), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", args}
}

// eachPair reads "k=v k2=v2", or the old form "k all the rest".
func eachPair(instruction, args string, words []string, set func(k, v string)) error {
	if first, _, _ := strings.Cut(args, " "); !strings.Contains(first, "=") {
		if len(words) < 2 {
			return badChange("%s must have two arguments", instruction)
		}
		if words[0] == "" {
			return badChange("%s names can not be blank", instruction)
		}
		set(words[0], strings.Join(words[1:], " "))
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return badChange("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		if k == "" {
			return badChange("%s names can not be blank", instruction)
		}
		set(k, v)
	}
	return nil
}

// setEnv replaces or appends k=v.
func setEnv(env []string, k, v string) []string {
	for i, e := range env {
		if strings.HasPrefix(e, k+"=") {
			env[i] = k + "=" + v
			return env
		}
	}
	return append(env, k+"="+v)
}

// expose reads ports and ranges of ports, with or without a protocol.
func expose(c *dockerspec.DockerOCIImageConfig, words []string) error {
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, w := range words {
		ports, proto, ok := strings.Cut(w, "/")
		if !ok {
			proto = "tcp"
		}
		proto = strings.ToLower(proto)
		if proto != "tcp" && proto != "udp" && proto != "sctp" {
			return badChange("invalid proto: %s", proto)
		}
		from, to, isRange := strings.Cut(ports, "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.ParseUint(from, 10, 16)
		hi, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || lo > hi || lo == 0 {
			return badChange("invalid containerPort: %s", ports)
		}
		for p := lo; p <= hi; p++ {
			c.ExposedPorts[fmt.Sprintf("%d/%s", p, proto)] = struct{}{}
		}
	}
	return nil
}

// addVolumes reads a JSON list of paths, or words.
func addVolumes(c *dockerspec.DockerOCIImageConfig, args string, words []string) error {
	var list []string
	if strings.HasPrefix(args, "[") && json.Unmarshal([]byte(args), &list) == nil {
		words = list
	}
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, w := range words {
		if w = strings.TrimSpace(w); w == "" {
			return badChange("VOLUME specified can not be an empty string")
		}
		c.Volumes[w] = struct{}{}
	}
	return nil
}

// splitWords splits a line at blanks as a shell does: quotes, backslashes, $NAME and ${NAME} (not within single quotes).
func splitWords(s string, env []string) (words []string, err error) {
	var (
		word   strings.Builder
		inWord bool
		quote  byte // the quote that is open, or 0
	)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			word.WriteByte(c)
		case c == '\\' && i+1 < len(s):
			i++
			if quote == '"' && !strings.ContainsRune(`"\$`, rune(s[i])) {
				word.WriteByte(c)
			}
			word.WriteByte(s[i])
			inWord = true
		case c == '$':
			n, value, err := variable(s[i+1:], env)
			if err != nil {
				return nil, err
			}
			word.WriteString(value)
			i += n
			inWord = true
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of statement while looking for matching %c", quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// variable reads a name after a dollar sign: how many bytes it takes, and its value.
func variable(s string, env []string) (n int, value string, err error) {
	name := s
	braces := strings.HasPrefix(s, "{")
	if braces {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return 0, "", fmt.Errorf("missing } in %q", s)
		}
		name, n = s[1:end], end+1
	}
	length := 0
	for length < len(name) && isNameByte(name[length], length) {
		length++
	}
	if braces && (length == 0 || length != len(name)) {
		return 0, "", fmt.Errorf("unsupported substitution ${%s}", name)
	}
	if length == 0 {
		return 0, "$", nil
	}
	if !braces {
		name, n = name[:length], length
	}
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return n, value, nil
}

func isNameByte(c byte, at int) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || at > 0 && c >= '0' && c <= '9'
}
