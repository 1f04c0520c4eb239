package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// CLI runs the stock docker client against one engine, with a configuration folder of its own.
type CLI struct {
	Host      string // DOCKER_HOST
	ConfigDir string // DOCKER_CONFIG
	CertDir   string // DOCKER_CERT_PATH of TLS with a client certificate; empty: none
}

// Result is how one command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
	Wall, CPU      time.Duration // of the client process itself
}

// Command prepares docker with args; it is killed when ctx ends.
func (c CLI) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(withoutDocker(os.Environ()), "DOCKER_HOST="+c.Host, "DOCKER_CONFIG="+c.ConfigDir, "DOCKER_CLI_HINTS=false")
	if c.CertDir != "" {
		cmd.Env = append(cmd.Env, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH="+c.CertDir)
	}
	// A client that was killed may leave its output open in a plugin; do not wait for that.
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Run runs docker to its end. The error is not nil only when there is no exit code: it could not start, or ctx ended.
func (c CLI) Run(ctx context.Context, stdin io.Reader, args ...string) (Result, error) {
	cmd := c.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	res := Result{Stdout: stdout.String(), Stderr: stderr.String(), Wall: time.Since(start)}
	if s := cmd.ProcessState; s != nil {
		res.Code, res.CPU = s.ExitCode(), s.UserTime()+s.SystemTime()
	}
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return res, fmt.Errorf("docker %s: %w\nstdout: %sstderr: %s", strings.Join(args, " "), ctx.Err(), res.Stdout, res.Stderr)
	}
	if err != nil && !errors.As(err, &exit) {
		return res, fmt.Errorf("docker %s: %w", strings.Join(args, " "), err)
	}
	return res, nil
}

// withoutDocker drops the caller's own DOCKER_ settings from an environment.
func withoutDocker(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "DOCKER_") {
			kept = append(kept, e)
		}
	}
	return kept
}
