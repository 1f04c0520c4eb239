package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// maxConfigFile bounds the file of settings in bytes.
const maxConfigFile = 1 << 20

// hostsKey is what -H is called in the file, as in docker's daemon.json.
const hostsKey = "hosts"

// readFile sets what neither the command line nor the environment gave, and returns all mistakes of the file: what is
// not JSON, keys that are no flag or come twice, values of another type or that the flag refuses.
func (c *config) readFile(fs *flag.FlagSet, given map[string]bool) (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{c.File}, args...)...))
	}
	data, err := readBounded(c.File)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", c.name("config"), err)}
	}
	settings, err := object(data)
	if err != nil {
		bad("%w", err)
		return errs
	}
	seen := map[string]bool{}
	for _, s := range settings {
		name := s.key
		if name == hostsKey {
			name = "H"
		}
		f := fs.Lookup(name)
		switch {
		case f == nil || name == "config" || s.key == "H":
			bad("%q is no setting", s.key)
			continue
		case seen[name]:
			bad("%q is there twice", s.key)
			continue
		}
		seen[name] = true
		values, err := literals(f, s.value)
		if err != nil {
			bad("%q: %w", s.key, err)
			continue
		}
		if given[name] {
			continue
		}
		c.from[name] = fmt.Sprintf("%s: %q:", c.File, s.key)
		for _, v := range values {
			if err := f.Value.Set(v); err != nil {
				bad("%q: %s: %w", s.key, v, plain(err))
			}
		}
	}
	return errs
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err == nil && len(data) > maxConfigFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxConfigFile)
	}
	return data, err
}

// setting is one key of the file.
type setting struct {
	key   string
	value json.RawMessage
}

// object reads a JSON object with its keys in order, also those that come twice.
func object(data []byte) ([]setting, error) {
	var all []setting
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("must be a JSON object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, notJSON(data, d, err)
		}
		s := setting{key: t.(string)} // the decoder takes nothing else for a key
		if err := d.Decode(&s.value); err != nil {
			return nil, notJSON(data, d, err)
		}
		all = append(all, s)
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(data, d, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, notJSON(data, d, errors.New("something follows the object"))
	}
	return all, nil
}

func notJSON(data []byte, d *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the file ends within the object")
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:d.InputOffset()], []byte{'\n'}), err)
}

// literals gives a value as the command line would have it: a list for repeatable flags, else one string, number or bool.
func literals(f *flag.Flag, raw json.RawMessage) ([]string, error) {
	_, repeatable := f.Value.(*hostList)
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	list, isList := v.([]any)
	if isList != repeatable {
		if repeatable {
			return nil, errors.New("must be a list of strings")
		}
		return nil, errors.New("must be a string, a number, true or false")
	}
	if !isList {
		list = []any{v}
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case json.Number:
			out = append(out, v.String())
		case bool:
			out = append(out, fmt.Sprint(v))
		default:
			return nil, errors.New("must be a string, a number, true or false")
		}
	}
	return out, nil
}

// name is how the user wrote the setting of a flag.
func (c *config) name(flag string) string {
	if from, ok := c.from[flag]; ok {
		return from
	}
	if len(flag) == 1 {
		return "-" + flag
	}
	return "--" + flag
}
