package app

import (
	"context"
	"log/slog"
	"time"
)

const (
	lastUsedEvery = 15 * time.Second // the contract promises a minute
	forgetEvery   = time.Hour
	// taskTimeout is how long one run of a background task may take.
	taskTimeout = 10 * time.Second
)

// loop runs a task until ctx is done. A failure is logged and the next run tries again.
func (a *App) loop(ctx context.Context, every time.Duration, name string, task func(ctx context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		run, cancel := context.WithTimeout(ctx, taskTimeout)
		if err := task(run); err != nil && ctx.Err() == nil {
			a.outside.Logger.LogAttrs(ctx, slog.LevelError, "background task failed",
				slog.String("task", name), slog.String("error", err.Error()))
		}
		cancel()
	}
}
