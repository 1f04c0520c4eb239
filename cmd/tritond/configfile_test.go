package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tritond.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFileSetsWhatNothingElseDoes(t *testing.T) {
	path := configFile(t, `{"log-level": "debug", "instance": "file", "http": "127.0.0.1:1", "min-free": "1m", "metrics-per-syscall": true,
		"hosts": ["unix:///a.sock", "tcp://127.0.0.1:2376"], "insecure-registry": ["10.0.0.0/8"], "probes": "counters"}`)
	c, err := parse([]string{"-instance=line", "-config=" + path}, map[string]string{"TRITOND_LOG_LEVEL": "warn", "TRITOND_INSTANCE": "variable"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Instance != "line" || c.LogLevel != "warn" || c.HTTP != "127.0.0.1:1" || c.MinFree != 1<<20 || !c.PerSyscall || c.Probes != "counters" {
		t.Errorf("got %+v", c)
	}
	if !slices.Equal(c.Hosts, hostList{"unix:///a.sock", "tcp://127.0.0.1:2376"}) || !slices.Equal(c.InsecureRegistries, hostList{"10.0.0.0/8"}) {
		t.Errorf("lists: %v, %v", c.Hosts, c.InsecureRegistries)
	}
	if c, err = parse(nil, map[string]string{"TRITOND_CONFIG": path}); err != nil || c.Instance != "file" {
		t.Errorf("named by a variable: %+v, %v", c, err)
	}
	// A list of the command line stands for the whole list of the file.
	if c, err = parse([]string{"-H=unix:///b.sock", "-config=" + path}, nil); err != nil || !slices.Equal(c.Hosts, hostList{"unix:///b.sock"}) {
		t.Errorf("hosts: %v, %v", c.Hosts, err)
	}
}

func TestEveryKeyOfTheFileRefusesBadValues(t *testing.T) {
	for name, bad := range badValues {
		key, list := name, name == "H" || name == "insecure-registry"
		if name == "H" {
			key = hostsKey
		}
		for _, b := range bad {
			if b[1] == "" || name == "config" {
				continue
			}
			value := `"` + b[0] + `"`
			if list {
				value = "[" + value + "]"
			}
			_, err := parse(withHost(name, "-config="+configFile(t, `{"`+key+`": `+value+`}`)), nil)
			if err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), `tritond.json: "`+key+`":`) {
				t.Errorf("%s: %s: got %v, want one line that names file and key", key, value, err)
			}
		}
	}
}

func TestMistakesOfTheFileAreListed(t *testing.T) {
	for text, want := range map[string][]string{
		`{"nosuch": 1, "log-level": "loud", "http": ["x"], "hosts": "unix:///a.sock", "instance": null, "min-free": {}, "H": []}`: {
			`"nosuch" is no setting`, `"log-level": "loud"`, `"http": must be a string`, `"hosts": must be a list`, `"instance": must be`, `"min-free": must be`, `"H" is no setting`,
		},
		`{"log-level": "info", "log-level": "warn"}`: {`"log-level" is there twice`},
		`{"config": "/etc/x"}`:                       {`"config" is no setting`},
		"{\n\"log-level\": \"info\",\n oops}":        {"line 3"},
		`{"log-level": "info"`:                       {"ends within"},
		`{} {}`:                                      {"something follows"},
		`[]`:                                         {"must be a JSON object"},
		``:                                           {"must be a JSON object"},
		`{"instance": "` + strings.Repeat("x", maxConfigFile) + `"}`: {"larger than"},
	} {
		_, err := parse([]string{"-config=" + configFile(t, text)}, nil)
		if err == nil {
			t.Errorf("%.60s: was taken", text)
			continue
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(want) {
			t.Errorf("%.60s: %d lines, want %d: %v", text, n, len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%.60s: %q is not in: %v", text, w, err)
			}
		}
	}
}
