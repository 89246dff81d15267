package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const keyPrefix = "plabs_sk_live_"

// rawKey is the n-th key of the benchmark: in the product's format, and made from its number.
func rawKey(n int) string {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	random := sha256.Sum256(seed[:])
	body := keyPrefix + base62(new(big.Int).SetBytes(random[:]), 43)
	return body + base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), 6)
}

func base62(n *big.Int, length int) string {
	text := n.Text(62)
	return strings.Repeat("0", length-len(text)) + text
}

// tables of the baselines.
const bareTables = `
	CREATE TABLE bare_keys (hash bytea PRIMARY KEY, id text NOT NULL, name text NOT NULL);
	CREATE TABLE bare_balances (id int PRIMARY KEY, used bigint NOT NULL, granted bigint NOT NULL);
	CREATE TABLE bare_events (id text PRIMARY KEY, credits bigint NOT NULL);
	CREATE TABLE bare_copy (account_id text, id text, credits bigint, category text, occurred_at timestamptz, recorded_at timestamptz,
		PRIMARY KEY (account_id, id));
	INSERT INTO bare_balances VALUES (1, 0, 1000000000000)`

// seed fills the database: accounts on a paid tier, keys of theirs, and the baselines' tables.
func seed(ctx context.Context, pool *pgxpool.Pool, pepper []byte, accounts, keys int) error {
	if _, err := pool.Exec(ctx, bareTables); err != nil {
		return err
	}
	now := time.Now().UTC()
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"id", "name", "tier", "created_at"},
		pgx.CopyFromSlice(accounts, func(i int) ([]any, error) { return []any{accountID(i), "A", "scale", now}, nil }))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, pepper)
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"api_keys"},
		[]string{"id", "account_id", "hash", "pepper_version", "prefix", "name", "created_at", "family"},
		pgx.CopyFromSlice(keys, func(i int) ([]any, error) {
			raw := rawKey(i)
			mac.Reset()
			mac.Write([]byte(raw))
			id := fmt.Sprintf("key_%012d", i)
			return []any{id, accountID(i % accounts), mac.Sum(nil), 1, raw[:18] + "...", "Default", now, id}, nil
		}))
	if err != nil {
		return err
	}
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"bare_keys"}, []string{"hash", "id", "name"},
		pgx.CopyFromSlice(keys, func(i int) ([]any, error) {
			hash := sha256.Sum256([]byte(verifyBody(i)))
			return []any{hash[:], fmt.Sprintf("key_%012d", i), "Default"}, nil
		}))
	if err != nil {
		return err
	}
	// The accounts' billing periods, as their first events would have opened them.
	_, err = pool.Exec(ctx, `
		INSERT INTO balances (account_id, period, source, anchor, months, starts_at, ends_at, tier, granted, included,
			valid_until, overage_micros)
		SELECT id, 0, 'own', day, 0, day, day + interval '1 month', tier, 1000000, 1000000, day + interval '1 month', 600
		FROM accounts, date_trunc('day', now(), 'UTC') AS day`)
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, "VACUUM ANALYZE")
	return err
}

func accountID(i int) string { return fmt.Sprintf("acct_%08d", i) }

func verifyBody(i int) string { return `{"key":"` + rawKey(i) + `"}` }
