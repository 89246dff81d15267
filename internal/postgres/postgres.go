// Package postgres opens the database, brings its schema up to date and runs transactions.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/keymeter/keymeter/db"
)

// Tx is a transaction. Methods whose names end in Tx join one.
type Tx = pgx.Tx

// Pool is a pool of connections.
type Pool = pgxpool.Pool

// SQLSTATE codes, from the PostgreSQL manual, appendix A.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	foreignKeyViolation  = "23503"
	uniqueViolation      = "23505"
)

// Open returns a pool on the database at url. maxConns 0 leaves pgx's default. It does not connect yet.
func Open(ctx context.Context, url string, maxConns int32) (*Pool, error) {
	return open(ctx, url, maxConns, nil)
}

// OpenHot returns a pool for what a service waits for on every request. Its connections are its own, so that no slow
// report holds them. They plan each query once, and look each row up in an index: planning costs more than these
// queries, and a plan that was made while a table was small would read all of it.
func OpenHot(ctx context.Context, url string, maxConns int32) (*Pool, error) {
	return open(ctx, url, maxConns, map[string]string{
		"plan_cache_mode": "force_generic_plan", "enable_hashjoin": "off", "enable_mergejoin": "off",
		"enable_seqscan": "off", "enable_bitmapscan": "off",
		// A server that was stopped in the middle of a transaction must not hold up the others for long.
		"idle_in_transaction_session_timeout": "5s",
	})
}

func open(ctx context.Context, url string, maxConns int32, params map[string]string) (*Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse the database url: %w", err)
	}
	if maxConns > 0 {
		cfg.MaxConns = maxConns
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "keymeter"
	}
	maps.Copy(cfg.ConnConfig.RuntimeParams, params)
	return pgxpool.NewWithConfig(ctx, cfg)
}

// Migrate brings the schema up to date. Replicas may call it at the same time: an advisory lock lets one do the work.
func Migrate(ctx context.Context, pool *Pool) error {
	provider, closeDB, err := migrations(pool)
	if err != nil {
		return err
	}
	defer closeDB()
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Pending reports whether the schema lacks migrations that this binary has.
func Pending(ctx context.Context, pool *Pool) (bool, error) {
	provider, closeDB, err := migrations(pool)
	if err != nil {
		return false, err
	}
	defer closeDB()
	return provider.HasPending(ctx)
}

func migrations(pool *Pool) (*goose.Provider, func(), error) {
	files, err := fs.Sub(db.Migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, nil, err
	}
	sqlDB := stdlib.OpenDBFromPool(pool)
	provider, err := goose.NewProvider(goose.DialectPostgres, sqlDB, files, goose.WithSessionLocker(locker))
	if err != nil {
		return nil, nil, errors.Join(err, sqlDB.Close())
	}
	return provider, func() { _ = sqlDB.Close() }, nil
}

// InTx runs fn in a transaction and commits if it returns nil. It runs fn again, in a new transaction, when Postgres
// says that a retry can help.
func InTx(ctx context.Context, pool *Pool, fn func(tx Tx) error) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, pool, fn)
		if err == nil || attempt == attempts || !retryable(err) {
			return err
		}
	}
}

func retryable(err error) bool {
	code := sqlState(err)
	return code == serializationFailure || code == deadlockDetected
}

// Violates reports whether err is a violation of the unique constraint or index of that name.
func Violates(err error, constraint string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == uniqueViolation && pgErr.ConstraintName == constraint
}

// Rejected reports whether err is about what was to be written, and not about the state of the database.
func Rejected(err error) bool {
	code := sqlState(err)
	return len(code) == 5 && (code[:2] == "22" || code[:2] == "23") // data exceptions, integrity violations
}

// LacksParent reports whether err says that a row's foreign key leads nowhere.
func LacksParent(err error) bool { return sqlState(err) == foreignKeyViolation }

// NoRows reports whether err says that a query found nothing.
func NoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// Unavailable reports whether err says that the database can't be reached or can't serve now, so that nothing is known
// about the question that was put to it.
func Unavailable(err error) bool {
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	if errors.As(err, &connectErr) || errors.As(err, &netErr) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) {
		return true
	}
	switch code := sqlState(err); {
	case len(code) != 5:
		return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // the server hung up in mid-exchange
	case code[:2] == "08", code[:2] == "53", code[:3] == "57P": // connection, resources, shutdown
		return true
	default:
		return retryable(err)
	}
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return ""
	}
	return pgErr.Code
}
