package app

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	lastUsedEvery = 15 * time.Second // the contract promises a minute
	forgetEvery   = time.Hour
	expireEvery   = 5 * time.Second
	sweepEvery    = time.Minute
	// taskTimeout is how long one run of a background task may take.
	taskTimeout = 10 * time.Second
)

// background starts what goes on beside requests: what they need until work is done, the rest until running is.
func (a *App) background(running, work context.Context, group *errgroup.Group) {
	group.Go(func() error { return a.Background(work) })
	for _, task := range []struct {
		every time.Duration
		name  string
		run   func(ctx context.Context) error
	}{
		{lastUsedEvery, "write last use of keys", a.keys.FlushLastUsed},
		{forgetEvery, "forget idempotency keys", a.idempotency.Forget},
		{expireEvery, "free expired holds", a.credits.ExpireHolds},
		{sweepEvery, "forget rate limit windows", a.limits.Sweep},
	} {
		group.Go(func() error { return a.loop(running, task.every, task.name, task.run) })
	}
}

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
