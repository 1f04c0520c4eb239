package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tritond/triton/test/engine"
)

// counter reads what a server did.
type counter struct {
	service service
	address string
	account *engine.Account
	api     *engine.API
}

// moment is what was done until then.
type moment struct {
	at       time.Time
	requests uint64
	cpu      time.Duration // of server, client, daemon and shims
	hooked   float64       // seconds for which hooks of system calls were attached
}

func (c counter) read(ctx context.Context) (m moment, err error) {
	var p probesNow
	if err := c.api.JSON(ctx, http.MethodGet, "/triton/v1/probes", nil, &p); err != nil {
		return m, err
	}
	m.hooked = p.Hooked
	if m.cpu, err = c.account.CPU(); err != nil {
		return m, err
	}
	from := time.Now()
	if m.requests, err = c.service.count(ctx, c.address); err != nil {
		return m, err
	}
	m.at = from.Add(time.Since(from) / 2) // the server answered somewhere between
	return m, nil
}

// countTime bounds the asking of a server.
const countTime = 10 * time.Second

// countRedis asks a redis-server how many commands it has executed.
func countRedis(ctx context.Context, address string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	if _, err := io.WriteString(conn, "INFO stats\r\n"); err != nil {
		return 0, err
	}
	return parseInfo(bufio.NewReader(conn))
}

// parseInfo reads an answer to INFO as far as it needs to: lines of name:value.
func parseInfo(r *bufio.Reader) (uint64, error) {
	for range 100 {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("read what redis did: %w", err)
		}
		if n, ok := strings.CutPrefix(strings.TrimSpace(line), "total_commands_processed:"); ok {
			return strconv.ParseUint(n, 10, 64)
		}
	}
	return 0, fmt.Errorf("redis does not tell how many commands it executed")
}

// countNginx asks an nginx how many requests it has had.
func countNginx(ctx context.Context, address string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return 0, fmt.Errorf("read what nginx did: %w", err)
	}
	return parseStatus(string(body))
}

// nginxCounts are accepted and handled connections, and requests: https://nginx.org/en/docs/http/ngx_http_stub_status_module.html.
var nginxCounts = regexp.MustCompile(`(?m)^ (\d+) (\d+) (\d+) $`)

func parseStatus(body string) (uint64, error) {
	m := nginxCounts.FindStringSubmatch(body)
	if m == nil {
		return 0, fmt.Errorf("nginx's status is %q", body)
	}
	return strconv.ParseUint(m[3], 10, 64)
}
