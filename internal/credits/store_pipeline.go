package credits

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

// sender is a connection or a transaction.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// pipelined runs the queries of script, in a single round trip. script runs twice: first to note the queries, which
// find nothing then, and again to get their results. before and after are statements around them, such as BEGIN, or "".
//
// An error leaves out the statements after the one that failed.
func pipelined(ctx context.Context, db sender, before, after string, script func(q *queries.Queries) error) error {
	p := &pipe{}
	if before != "" {
		p.batch.Queue(before)
	}
	if err := script(queries.New(p)); err != nil {
		return err
	}
	if after != "" {
		p.batch.Queue(after)
	}
	p.results = db.SendBatch(ctx, &p.batch)
	err := p.receive(before, script)
	// Close reads what is left, which is after.
	if closeErr := p.results.Close(); err == nil {
		err = closeErr
	}
	return err
}

// pipe makes a pipeline of the queries that sqlc generates. Only Exec and Query are for use in one.
type pipe struct {
	queries.DBTX
	batch   pgx.Batch
	results pgx.BatchResults // nil while queries are being noted
}

func (p *pipe) receive(before string, script func(q *queries.Queries) error) error {
	if before != "" {
		if _, err := p.results.Exec(); err != nil {
			return err
		}
	}
	return script(queries.New(p))
}

// Exec makes pipe a queries.DBTX.
func (p *pipe) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if p.results == nil {
		p.batch.Queue(sql, args...)
		return pgconn.CommandTag{}, nil
	}
	return p.results.Exec()
}

// Query makes pipe a queries.DBTX.
func (p *pipe) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	if p.results == nil {
		p.batch.Queue(sql, args...)
		return noRows{}, nil
	}
	return p.results.Query()
}

// noRows is the result of a query that has not been sent.
type noRows struct{ pgx.Rows }

// Next makes noRows a pgx.Rows.
func (noRows) Next() bool { return false }

// Err makes noRows a pgx.Rows.
func (noRows) Err() error { return nil }

// Close makes noRows a pgx.Rows.
func (noRows) Close() {}

// rollback gives locks back at once. If the connection is broken, the server has seen that or will.
func rollback(ctx context.Context, conn queries.DBTX) error {
	_, err := conn.Exec(ctx, "ROLLBACK")
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return err
	}
	return nil
}

// SQLSTATE codes, from the PostgreSQL manual, appendix A.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// storedBefore reports whether err says that an event is stored already.
func storedBefore(err error) bool { return postgres.Violates(err, "usage_events_pkey") }

// worthRetry reports whether a new transaction may well get through.
func worthRetry(err error) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	return pgErr.Code == serializationFailure || pgErr.Code == deadlockDetected
}
