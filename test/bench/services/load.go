package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/tritond/triton/test/images"
)

// service is a server and the load that is put on it.
type service struct {
	name   string
	image  images.Debian
	port   string   // that the server listens on, on all addresses
	server []string // its argv
	// client is the argv of a load of a turn, endless of one that goes on until it is killed.
	client, endless func(address string) []string
	parse           func(out string) (result, error) // what client prints
	// count asks the server at an address (host:port) for the number of requests that it has had, those of the asking included.
	count func(ctx context.Context, address string) (uint64, error)
}

// result is what a client saw.
type result struct {
	requests float64 // in all; 0: it does not tell, it is as many as it was told to make
	rate     float64 // per second
}

// A turn takes some two seconds.
const (
	turnSeconds   = 2
	redisRequests = 200_000
)

// redisPort is one that a host does not have in use.
const redisPort = "18094"

func services() []service {
	return []service{
		{
			name: "redis SET", image: images.Redis("triton-bench/redis:latest"), port: redisPort,
			server:  []string{"redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--port", redisPort, "--loglevel", "warning"},
			client:  func(address string) []string { return redisClient(address, redisRequests) },
			endless: func(address string) []string { return redisClient(address, math.MaxInt32) }, // hours
			parse:   parseRedis, count: countRedis,
		},
		nginx("nginx GET", "bench.conf"), nginx("nginx GET, files kept open", "kept.conf"),
	}
}

func redisClient(address string, requests int) []string {
	return []string{"redis-benchmark", "-h", address, "-p", redisPort, "-t", "set", "-n", strconv.Itoa(requests), "-c", "16", "--csv"}
}

func nginx(name, conf string) service {
	return service{
		name: name, image: images.Nginx("triton-bench/nginx:latest"), port: images.BenchPort,
		server:  []string{"nginx", "-c", "/etc/nginx/" + conf},
		client:  func(address string) []string { return wrk(address, strconv.Itoa(turnSeconds)+"s") },
		endless: func(address string) []string { return wrk(address, "24h") },
		parse:   parseWrk, count: countNginx,
	}
}

func wrk(address, duration string) []string {
	return []string{"wrk", "-t", "1", "-c", "16", "-d", duration, "http://" + address + ":" + images.BenchPort + "/"}
}

// parseRedis reads redis-benchmark --csv: a line of names, then "SET","123456.78",….
func parseRedis(out string) (result, error) {
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, `"SET"`) {
			continue
		}
		f, err := csv.NewReader(strings.NewReader(line)).Read()
		if err != nil || len(f) < 2 {
			break
		}
		rate, err := strconv.ParseFloat(f[1], 64)
		if err != nil || rate <= 0 {
			break
		}
		return result{rate: rate}, nil
	}
	return result{}, fmt.Errorf("redis-benchmark printed %q", out)
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in`)
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s*([0-9.]+)`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*`)
)

func parseWrk(out string) (result, error) {
	n, rate := wrkRequests.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	if n == nil || rate == nil || wrkErrors.MatchString(out) {
		return result{}, fmt.Errorf("wrk printed %q", out)
	}
	var r result
	var err error
	if r.requests, err = strconv.ParseFloat(n[1], 64); err != nil {
		return r, err
	}
	r.rate, err = strconv.ParseFloat(rate[1], 64)
	return r, err
}
