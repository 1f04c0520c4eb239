package main

import (
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
)

// badValues has for each flag something it must refuse, and a part of the line that says so; "": every value is one.
var badValues = map[string][][2]string{
	"config":              {{"/nosuch/config.json", "/nosuch/config.json"}},
	"api-connections":     {{"0", "api-connections"}, {"1048577", "1 to 1048576"}, {"x", "api-connections"}},
	"api-cpu":             {{"-1", "api-cpu"}, {"100.5", "0 to 100"}, {"NaN", "api-cpu"}, {"all", "api-cpu"}},
	"api-waiting":         {{"0", "api-waiting"}, {"32769", "1 to 32768"}, {"x", "api-waiting"}},
	"core-capture":        {{"maybe", `--core-capture "maybe"`}},
	"core-pattern":        {{"maybe", `--core-pattern "maybe"`}},
	"core-quota":          {{"lots", "core-quota"}},
	"max-containers":      {{"0", "max-containers"}, {"4097", "1 to 4096"}, {"x", "max-containers"}},
	"core-keep":           {{"lots", "core-keep"}},
	"core-cpu":            {{"-1", "core-cpu"}, {"101", "0 to 100"}, {"x", "core-cpu"}},
	"core-max-hold":       {{"0s", "core-max-hold"}, {"x", "core-max-hold"}},
	"data-root":           {{"", ""}},
	"promises":            {{"all", `--promises "all"`}, {"", "--promises"}},
	"label":               {{"x", "KEY=VALUE"}, {"=x", "KEY=VALUE"}, {"node=x", "KEY=VALUE"}, {"a b=c", "KEY=VALUE"}},
	"probes":              {{"loud", `--probes "loud"`}, {"", "--probes"}},
	"probes-budget":       {{"-1", "probes-budget"}, {"100.1", "0 to 100"}, {"NaN", "probes-budget"}, {"3%", "probes-budget"}, {"", "probes-budget"}},
	"run-root":            {{"/" + strings.Repeat("x", 100), "--run-root /"}},
	"H":                   {{"ftp://x", `-H "ftp://x"`}, {"tcp://127.0.0.1", "-H"}, {"tcp://127.0.0.1:0", "-H"}, {"tcp://h:70000", "-H"}, {"unix://x", "-H"}, {"tcp://a@h:1", "-H"}, {"tcp://h:1/x", "-H"}},
	"http":                {{"nonsense", `--http "nonsense"`}, {"127.0.0.1:http", "--http"}, {"127.0.0.1:99999", "--http"}},
	"bridge-subnet":       {{"10.0.0.0/30", "--bridge-subnet"}, {"10.0.0.1/16", "--bridge-subnet"}, {"fd00::/64", "--bridge-subnet"}, {"x", "--bridge-subnet"}},
	"instance":            {{"A b", `--instance "A b"`}},
	"log-level":           {{"loud", `--log-level "loud"`}},
	"insecure-tcp":        {{"maybe", "insecure-tcp"}},
	"min-free":            {{"lots", "min-free"}, {"-1", "min-free"}, {"256x", "a number of bytes"}},
	"recorder-threads":    {{"-1", "recorder-threads"}, {"65537", "recorder-threads"}, {"all", "recorder-threads"}},
	"metrics-per-device":  {{"maybe", "metrics-per-device"}},
	"remotes":             {{"-1", "remotes"}, {"1048577", "0 to 1048576"}, {"all", "remotes"}},
	"remotes-each":        {{"0", "remotes-each"}, {"1048577", "1 to 1048576"}},
	"remotes-udp":         {{"perhaps", "remotes-udp"}},
	"metrics-dns":         {{"maybe", "metrics-dns"}},
	"metrics-per-peer":    {{"maybe", "metrics-per-peer"}},
	"metrics-network":     {{"maybe", "metrics-network"}},
	"metrics-per-syscall": {{"maybe", "metrics-per-syscall"}},
	"favordynmods":        {{"maybe", "favordynmods"}},
	"shim":                {{"", ""}},
	"registry-certs":      {{"", ""}},
	"pyroscope":           {{"ftp://x", "--pyroscope"}, {"nonsense", "--pyroscope"}},
	"pyroscope-url":       {{"ftp://x", "--pyroscope-url"}, {"nonsense", "--pyroscope-url"}},
	"insecure-registry":   {{"http://x/y", "--insecure-registry"}},
}

func parse(args []string, env map[string]string) (config, error) {
	return parseConfig("tritond", args, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, io.Discard)
}

func withHost(flag string, args ...string) []string {
	if flag == "H" {
		return args
	}
	return append(args, "-H=unix:///x.sock")
}

func variable(name string) string {
	return "TRITOND_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func TestEveryFlagRefusesBadValues(t *testing.T) {
	var c config
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	c.flags(fs)
	fs.VisitAll(func(f *flag.Flag) {
		bad, ok := badValues[f.Name]
		if !ok {
			t.Errorf("--%s: no bad value: add one to badValues", f.Name)
		}
		for _, b := range bad {
			if b[1] == "" {
				continue
			}
			// A short -H, so that a long run root is one mistake and not two.
			_, err := parse(withHost(f.Name, "-"+f.Name+"="+b[0]), nil)
			if err == nil || !strings.Contains(err.Error(), b[1]) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("--%s=%s: got %v, want one line with %s", f.Name, b[0], err, b[1])
			}
			_, err = parse(withHost(f.Name), map[string]string{variable(f.Name): b[0]})
			if err == nil || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("%s=%s: got %v, want one line", variable(f.Name), b[0], err)
			}
		}
	})
}

func TestAllMistakesAreListed(t *testing.T) {
	_, err := parse([]string{"-instance=A b", "-log-level=loud", "-H=x", "-H=tcp://y", "-http=z"}, map[string]string{"TRITOND_MIN_FREE": "lots"})
	if err == nil {
		t.Fatal("five mistakes were taken")
	}
	for _, text := range []string{"--instance", "--log-level", `-H "x"`, `-H "tcp://y"`, "--http", "TRITOND_MIN_FREE"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s is not named in: %v", text, err)
		}
	}
	_, err = parse([]string{"-min-free=lots", "-favordynmods=maybe", "-nosuch", "value", "-http=z"}, nil)
	for _, text := range []string{"min-free", "favordynmods", "nosuch"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s is not named in: %v", text, err)
		}
	}
	if _, err := parse([]string{"extra"}, nil); err == nil || !strings.Contains(err.Error(), `"extra"`) {
		t.Errorf("got %v", err)
	}
}

func TestFlagWinsOverVariable(t *testing.T) {
	c, err := parse([]string{"-log-level=warn"}, map[string]string{"TRITOND_LOG_LEVEL": "debug", "TRITOND_INSTANCE": "x"})
	if err != nil || c.LogLevel != "warn" || c.Instance != "x" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestWhatLeavesTheMachineIsTLS(t *testing.T) {
	for http, want := range map[string]bool{
		"127.0.0.1:8080": false, "localhost:8080": false, "[::1]:8080": false, "0.0.0.0:8080": true, ":8080": true, "10.0.0.1:8080": true, "build:8080": true,
	} {
		c, err := parse([]string{"-http=" + http, "-H=tcp://10.0.0.2:2376"}, nil)
		if err != nil || c.webTLS() != want {
			t.Errorf("%s: TLS %v, %v", http, c.webTLS(), err)
		}
		if got := c.tlsAddresses(); !slices.Contains(got, "10.0.0.2:2376") || slices.Contains(got, http) != want {
			t.Errorf("%s: the certificate names %v", http, got)
		}
	}
	if c, _ := parse([]string{"-http=:8080"}, nil); c.HTTP == "" {
		t.Error("no address")
	}
}

func TestHelpPrintsTheFlagsAndAMistakeDoesNot(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	var out strings.Builder
	if _, err := parseConfig("tritond serve", []string{"-h"}, none, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-min-free") {
		t.Errorf("help: %v, %q", err, out.String())
	}
	out.Reset()
	if _, err := parseConfig("tritond serve", []string{"-min-free=lots"}, none, &out); err == nil || out.Len() > 0 {
		t.Errorf("mistake: %v, %q", err, out.String())
	}
}
