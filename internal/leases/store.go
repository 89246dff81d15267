package leases

import (
	"context"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

func take(ctx context.Context, db queries.DBTX, target string) (int64, error) {
	return queries.New(db).TakeInvalidation(ctx, target)
}

func latest(ctx context.Context, db queries.DBTX) (int64, error) {
	return queries.New(db).LatestInvalidation(ctx)
}

// register returns the number up to which the new row has acknowledged.
func register(ctx context.Context, db queries.DBTX, id, earlier string) (int64, error) {
	return queries.New(db).RegisterReplica(ctx, queries.RegisterReplicaParams{ID: id, Earlier: earlier})
}

func unregister(ctx context.Context, db queries.DBTX, earlier string) error {
	return queries.New(db).DeleteReplica(ctx, earlier)
}

func ack(ctx context.Context, db queries.DBTX, id string, acked int64) error {
	rows, err := queries.New(db).AckInvalidations(ctx, queries.AckInvalidationsParams{ID: id, Acked: acked})
	if err == nil && rows == 0 {
		return errDeclaredDead
	}
	return err
}

// renew returns the newest number that was committed before the call, or a later one.
func renew(ctx context.Context, db queries.DBTX, id string, acked int64) (int64, error) {
	seq, err := queries.New(db).RenewLease(ctx, queries.RenewLeaseParams{ID: id, Acked: acked})
	if postgres.NoRows(err) {
		return 0, errDeclaredDead
	}
	return seq, err
}

// progress returns what all replicas have acknowledged, and what is committed.
func progress(ctx context.Context, db queries.DBTX) (least, committed int64, err error) {
	row, err := queries.New(db).InvalidationProgress(ctx)
	return row.Acked, row.Seq, err
}

func deleteSilent(ctx context.Context, db queries.DBTX, seq int64) ([]string, error) {
	return queries.New(db).DeleteSilentReplicas(ctx, seq)
}
