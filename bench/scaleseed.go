package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	scaleKeys   = 1_000_000
	scaleEvents = 10_000_000
	// The last keys and every fifth event belong to one big account.
	bigKeys    = 100_000
	bigAccount = accounts
)

// seedScale fills the database with a month of usage: as many keys and events as a busy operator has, and an account that
// is far bigger than the others.
func seedScale(ctx context.Context, pool *pgxpool.Pool, pepper []byte) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"accounts", func(ctx context.Context) error { return execute(ctx, pool, scaleAccounts, accounts) }},
		{"keys", func(ctx context.Context) error { return copyScaleKeys(ctx, pool, pepper) }},
		{"events", func(ctx context.Context) error { return insertScaleEvents(ctx, pool) }},
		{"totals", func(ctx context.Context) error { return execute(ctx, pool, scaleTotals) }},
		{"vacuum", func(ctx context.Context) error { return execute(ctx, pool, "VACUUM ANALYZE") }},
	} {
		start := time.Now()
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		slog.Info("seeded", "what", step.name, "seconds", int(time.Since(start).Seconds()))
	}
	return nil
}

// scaleAccounts makes accounts on a paid tier and their billing periods, as their first events would have opened them.
const scaleAccounts = `
	WITH made AS (
		INSERT INTO accounts (id, name, tier, created_at)
		SELECT 'acct_' || lpad(i::text, 8, '0'), 'A', 'scale', date_trunc('day', now(), 'UTC') - interval '30 days'
		FROM generate_series(0, $1::int) AS i
		RETURNING id, tier, created_at
	)
	INSERT INTO balances (account_id, period, source, anchor, months, starts_at, ends_at, tier, granted, included,
		valid_until, overage_micros)
	SELECT id, 0, 'own', created_at, 0, created_at, now() + interval '1 day', tier, 1000000, 1000000, now() + interval '1 day', 600 FROM made`

func copyScaleKeys(ctx context.Context, pool *pgxpool.Pool, pepper []byte) error {
	mac := hmac.New(sha256.New, pepper)
	created := time.Now().Add(-30 * 24 * time.Hour)
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"api_keys"},
		[]string{"id", "account_id", "hash", "pepper_version", "prefix", "name", "created_at", "family"},
		pgx.CopyFromSlice(scaleKeys, func(i int) ([]any, error) {
			raw := rawKey(i)
			mac.Reset()
			mac.Write([]byte(raw))
			id := keyID(i)
			return []any{id, accountID(scaleOwner(i)), mac.Sum(nil), 1, raw[:18] + "...", "Default", created, id}, nil
		}))
	return err
}

func keyID(i int) string { return fmt.Sprintf("key_%012d", i) }

// scaleOwner is the account of the i-th key.
func scaleOwner(i int) int {
	if i >= scaleKeys-bigKeys {
		return bigAccount
	}
	return i % accounts
}

// insertScaleEvents spreads events over a month, in the order in which they were recorded. One in a hundred was recorded
// hours or days after it happened. Some keys of an account are used more than others, and the last tenth never.
func insertScaleEvents(ctx context.Context, pool *pgxpool.Pool) error {
	return withoutIndexes(ctx, pool, "usage_events", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO usage_events (account_id, id, period, key_id, category, byok, credits, occurred_at, recorded_at,
				fingerprint)
			SELECT 'acct_' || lpad(account::text, 8, '0'), 'req_' || lpad(i::text, 12, '0'), 0,
				'key_' || lpad((CASE WHEN big THEN $2::bigint - $3::bigint + floor(0.9 * $3 * r * r)::bigint
				                ELSE account + $4::bigint * floor(81 * r * r)::bigint END)::text, 12, '0'),
				(ARRAY['tts', 'llm', 'rag'])[1 + i % 3], false, 1 + i % 10,
				recorded - CASE WHEN i % 100 = 7 THEN interval '3 days' * random() ELSE interval '1 second' END, recorded,
				'\x0123456789abcdef0123456789abcdef'
			FROM generate_series(1, $1::bigint) AS i,
				LATERAL (SELECT i % 5 = 0 AS big, random() AS r, floor(random() * $4)::bigint AS small,
					now() - interval '30 days' * (1 - i::float8 / $1) - interval '1 minute' AS recorded) AS e,
				LATERAL (SELECT CASE WHEN big THEN $4 ELSE small END AS account) AS a`,
			int64(scaleEvents), int64(scaleKeys), int64(bigKeys), int64(accounts))
		return err
	})
}

// scaleTotals is what recording the events would have added up.
const scaleTotals = `
	INSERT INTO usage_totals (account_id, hour, key_id, category, credits, requests)
	SELECT account_id, date_trunc('hour', occurred_at, 'UTC'), key_id, category, sum(credits), count(*)
	FROM usage_events GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
	INSERT INTO usage_hours (account_id, hour, category, credits, requests)
	SELECT account_id, hour, category, sum(credits), sum(requests) FROM usage_totals GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`

// withoutIndexes makes a table's indexes after it was filled, which takes a fraction of the time.
func withoutIndexes(ctx context.Context, pool *pgxpool.Pool, table string, fill func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisprimary, c.conname, pg_get_constraintdef(c.oid)
			FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype = 'p'
			WHERE i.indrelid = $1::regclass`, table)
		if err != nil {
			return err
		}
		var drop, create []string
		var name, definition string
		var primary bool
		var constraint, constraintDefinition *string
		_, err = pgx.ForEachRow(rows, []any{&name, &definition, &primary, &constraint, &constraintDefinition}, func() error {
			if primary {
				drop = append(drop, fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s", table, *constraint))
				create = append(create, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", table, *constraint, *constraintDefinition))
				return nil
			}
			drop, create = append(drop, "DROP INDEX "+name), append(create, definition)
			return nil
		})
		if err != nil {
			return err
		}
		create = append([]string{"SET LOCAL maintenance_work_mem = '1GB'"}, create...)
		if err := executeAll(ctx, tx, drop); err != nil {
			return err
		}
		if err := fill(tx); err != nil {
			return err
		}
		return executeAll(ctx, tx, create)
	})
}

func executeAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func execute(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) error {
	_, err := pool.Exec(ctx, sql, args...)
	return err
}
