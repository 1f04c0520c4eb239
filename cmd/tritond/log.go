package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/sirupsen/logrus"
)

// newLogger makes the daemon's log, to which containerd's packages write too.
func newLogger(cfg config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // validate has refused anything else
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	logrus.SetOutput(io.Discard)
	logrus.AddHook(libraryLog{log})
	return log
}

// libraryLog is the logrus hook that hands entries to slog. Their errors come back to us as errors as well, and their
// warnings tell of what a file system lacks: an operator's Warn and Debug.
type libraryLog struct{ log *slog.Logger }

// Levels implements logrus.Hook.
func (libraryLog) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h libraryLog) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.ErrorLevel {
		level = slog.LevelWarn
	}
	args := make([]any, 0, 2+2*len(e.Data))
	args = append(args, "from", "containerd")
	for k, v := range e.Data {
		args = append(args, k, v)
	}
	h.log.Log(context.Background(), level, e.Message, args...)
	return nil
}
