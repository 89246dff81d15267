package ratelimit

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

// take takes the next chunk of the window's tokens and returns how many had been taken before: those between that and
// the limit, up to a chunk, are the caller's.
func take(ctx context.Context, db queries.DBTX, subject string, start time.Time, limit Limit) (before int64, err error) {
	before, err = queries.New(db).TakeRateTokens(ctx, queries.TakeRateTokensParams{
		Subject: subject, StartsAt: start, Chunk: limit.chunk(), MaxTaken: int64(limit.Requests),
	})
	if postgres.NoRows(err) {
		return int64(limit.Requests), nil
	}
	return before, err
}

func deleteWindows(ctx context.Context, db queries.DBTX, windows []ended) error {
	params := queries.DeleteRateWindowsParams{
		Subjects: make([]string, len(windows)), StartsAt: make([]time.Time, len(windows)),
	}
	for i, w := range windows {
		params.Subjects[i], params.StartsAt[i] = w.subject, time.Unix(0, w.start)
	}
	return queries.New(db).DeleteRateWindows(ctx, params)
}

func deleteBefore(ctx context.Context, db queries.DBTX, oldest time.Time) error {
	return queries.New(db).DeleteRateWindowsBefore(ctx, oldest)
}
