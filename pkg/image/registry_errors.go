package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// registryError says in docker's words why a registry refused. action is "pull" or "push".
func registryError(action string, ref reference.Named, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	name := reference.FamiliarName(ref)
	reason, denied, missing := registryReason(err)
	switch {
	case denied:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"%s access denied for %s, repository does not exist or may require 'docker login': %s", action, name, reason))
	case missing:
		if reason == "" {
			reason = "manifest unknown: manifest unknown"
		}
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: %s", reference.FamiliarString(ref), reason))
	case reason != "":
		return fmt.Errorf("%s %s: %s", action, reference.FamiliarString(ref), reason)
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		return transport // 'Get "https://…": dial tcp …: connect: connection refused', as docker
	}
	return err
}

// registryReason takes an answer apart: the registry's words, and whether it denied access or has no such thing.
func registryReason(err error) (reason string, denied, missing bool) {
	var codes docker.Errors
	if errors.As(err, &codes) && len(codes) > 0 {
		reason = bounded(codes[0].Error())
	}
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) {
		denied = status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden
		missing = status.StatusCode == http.StatusNotFound
		if reason == "" {
			reason = "unexpected status from " + status.RequestMethod + " request: " + status.Status
		}
		return reason, denied, missing
	}
	if errors.Is(err, docker.ErrInvalidAuthorization) {
		return authReason(err), true, false
	}
	return reason, false, errdefs.IsNotFound(err)
}

// authReason is the innermost text that says why credentials did not do.
func authReason(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if u := errors.Unwrap(e); u == nil || errors.Is(u, docker.ErrInvalidAuthorization) && errors.Unwrap(u) == nil {
			return bounded(e.Error())
		}
	}
	return bounded(err.Error())
}

// maxReason is how much of a registry's words a user gets to see.
const maxReason = 1024

func bounded(s string) string {
	if len(s) > maxReason {
		return s[:maxReason] + "…"
	}
	return s
}
