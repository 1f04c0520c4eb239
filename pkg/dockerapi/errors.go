package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// apiError is a message for the client with the kind that decides the status.
type apiError struct {
	kind error
	msg  string
}

func (e *apiError) Error() string { return e.msg }
func (e *apiError) Unwrap() error { return e.kind }

func invalid(format string, args ...any) error {
	return &apiError{errdefs.ErrInvalidArgument, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &apiError{errdefs.ErrNotFound, fmt.Sprintf(format, args...)}
}

func notBuilt(format string, args ...any) error {
	return &apiError{errdefs.ErrNotImplemented, fmt.Sprintf(format, args...)}
}

func unavailable(format string, args ...any) error {
	return &apiError{errdefs.ErrUnavailable, fmt.Sprintf(format, args...)}
}

var errPageNotFound = notFound("page not found")

// statusOf gives the HTTP status for an error, by its errdefs kind; 500 for none.
func statusOf(err error) int {
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return http.StatusRequestEntityTooLarge
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsAlreadyExists(err), errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err), errdefs.IsAborted(err):
		return http.StatusConflict
	case errdefs.IsInvalidArgument(err), errdefs.IsOutOfRange(err):
		return http.StatusBadRequest
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsResourceExhausted(err), errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// messageOf is the text a client sees. The words of the kind at the end of a wrapped error are the status once more:
// docker's texts end without them, and clients compare texts. "permission denied" stays: the CLI's exit code 126 needs it.
func messageOf(err error) string {
	msg := err.Error()
	for _, kind := range []error{
		errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrConflict, errdefs.ErrFailedPrecondition,
		errdefs.ErrInvalidArgument, errdefs.ErrNotImplemented, errdefs.ErrUnavailable, errdefs.ErrResourceExhausted,
	} {
		if cut, ok := strings.CutSuffix(msg, ": "+kind.Error()); ok && errors.Is(err, kind) {
			return cut
		}
	}
	return msg
}

// startError gives a failed start the kind docker gives it: 400 when the program is what cannot be started. The CLI
// takes its own exit code (127, 126, else 125) from the text.
func startError(err error) error {
	if err == nil || statusOf(err) < http.StatusInternalServerError || errors.Is(err, context.Canceled) {
		return err
	}
	msg := err.Error()
	lower := strings.ToLower(msg)
	if strings.Contains(lower, "is a directory") && !strings.Contains(lower, "permission denied") {
		msg += ": permission denied" // docker's own fudge: old CLIs know EISDIR only as EACCES
	}
	for _, text := range []string{
		"executable file not found", "no such file or directory", "permission denied", "is a directory", "not a directory", "exec format error",
	} {
		if strings.Contains(lower, text) {
			return &apiError{errdefs.ErrInvalidArgument, msg}
		}
	}
	return err
}
