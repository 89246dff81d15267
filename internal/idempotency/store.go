package idempotency

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

type dbtx = queries.DBTX

// claim reports whether the request is the first with its key. busyUntil is nil where the claim ends with a transaction.
func claim(ctx context.Context, db dbtx, e entry, busyUntil *time.Time) (bool, error) {
	rows, err := queries.New(db).ClaimIdempotencyKey(ctx, queries.ClaimIdempotencyKeyParams{
		Scope: e.scope, KeyHash: e.keyHash, Fingerprint: e.fingerprint, BusyUntil: busyUntil, Now: e.now, Oldest: e.oldest,
	})
	return rows == 1, err
}

type storedEntry struct{ fingerprint, answer []byte }

func find(ctx context.Context, db dbtx, e entry) (storedEntry, error) {
	row, err := queries.New(db).GetIdempotencyKey(ctx, queries.GetIdempotencyKeyParams{Scope: e.scope, KeyHash: e.keyHash})
	if postgres.NoRows(err) { // its owner has just given up
		return storedEntry{}, ErrInProgress
	}
	return storedEntry{fingerprint: row.Fingerprint, answer: row.Answer}, err
}

func keepAnswer(ctx context.Context, db dbtx, e entry, sealed []byte) error {
	return queries.New(db).AnswerIdempotencyKey(ctx, queries.AnswerIdempotencyKeyParams{
		Scope: e.scope, KeyHash: e.keyHash, Answer: sealed,
	})
}

func release(ctx context.Context, db dbtx, e entry, busyUntil time.Time) error {
	return queries.New(db).ReleaseIdempotencyKey(ctx, queries.ReleaseIdempotencyKeyParams{
		Scope: e.scope, KeyHash: e.keyHash, BusyUntil: busyUntil,
	})
}

func forget(ctx context.Context, db dbtx, oldest time.Time) error {
	return queries.New(db).DeleteIdempotencyKeys(ctx, oldest)
}
