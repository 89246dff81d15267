package ratelimit

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// sweepMargin is how far the clocks of replicas may be apart: a window that is over here may go on elsewhere, and
	// without its row it would begin anew.
	sweepMargin = 10 * time.Second
	// sweepBatch is how many rows a statement deletes.
	sweepBatch = 10_000
)

// Sweep forgets windows that are over and deletes their rows. Run it every few seconds. Rows that nobody deletes, as
// their replica died or Postgres was away, go when no window can be as long as they are old.
func (l *Limiter) Sweep(ctx context.Context) error {
	now := l.now()
	var over []ended
	for i := range l.shards {
		over = append(over, l.shards[i].sweep(now.UnixNano(), now.Add(-sweepMargin).UnixNano())...)
	}
	var errs []error
	for batch := range slices.Chunk(over, sweepBatch) {
		errs = append(errs, deleteWindows(ctx, l.pool, batch))
	}
	return errors.Join(append(errs, deleteBefore(ctx, l.pool, now.Add(-maxWindow-sweepMargin)))...)
}
