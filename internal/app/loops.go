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
	// An event that no webhook brought is found within 5 minutes.
	reconcileEvery   = time.Minute
	reconcileTimeout = 5 * time.Minute
	// taskTimeout is how long one run of a background task may take.
	taskTimeout = 10 * time.Second
)

// background starts what goes on beside requests: what they need until work is done, the rest until running is.
func (a *App) background(running, work context.Context, group *errgroup.Group) {
	group.Go(func() error { return a.Background(work) })
	tasks := []task{
		{lastUsedEvery, taskTimeout, "write last use of keys", a.keys.FlushLastUsed},
		{forgetEvery, taskTimeout, "forget idempotency keys", a.idempotency.Forget},
		{expireEvery, taskTimeout, "free expired holds", a.credits.ExpireHolds},
		{sweepEvery, taskTimeout, "forget rate limit windows", a.limits.Sweep},
	}
	if a.cfg.StripeSecretKey != "" {
		tasks = append(tasks, task{reconcileEvery, reconcileTimeout, "reconcile with Stripe", a.reconcile})
	}
	for _, t := range tasks {
		group.Go(func() error { return a.loop(running, t) })
	}
}

// task is done every so often, and has so long for it.
type task struct {
	every, timeout time.Duration
	name           string
	run            func(ctx context.Context) error
}

func (a *App) reconcile(ctx context.Context) error {
	report, err := a.billing.Reconcile(ctx)
	if report.Found+report.Unreadable+report.FailingEvents+report.ParkedOverage > 0 {
		a.outside.Logger.LogAttrs(ctx, slog.LevelWarn, "reconciled with Stripe", slog.Any("report", report))
	}
	return err
}

// loop runs a task until ctx is done. A failure is logged and the next run tries again.
func (a *App) loop(ctx context.Context, t task) error {
	ticker := time.NewTicker(t.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		run, cancel := context.WithTimeout(ctx, t.timeout)
		if err := t.run(run); err != nil && ctx.Err() == nil {
			a.outside.Logger.LogAttrs(ctx, slog.LevelError, "background task failed",
				slog.String("task", t.name), slog.String("error", err.Error()))
		}
		cancel()
	}
}
