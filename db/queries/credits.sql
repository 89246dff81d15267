-- name: LatestBalance :one
SELECT * FROM balances WHERE account_id = $1 ORDER BY period DESC LIMIT 1;

-- name: LockLatestBalance :one
SELECT * FROM balances WHERE account_id = $1 ORDER BY period DESC LIMIT 1 FOR NO KEY UPDATE;

-- name: LockAccountTier :one
-- Whoever opens, closes or changes a period holds the account's row.
SELECT tier, created_at FROM accounts WHERE id = $1 FOR NO KEY UPDATE;

-- name: InsertBalance :exec
INSERT INTO balances (account_id, period, source, anchor, months, starts_at, ends_at, tier, capped, granted,
                      included)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: UsedInMonth :one
SELECT coalesce(sum(used), 0)::bigint FROM balances
WHERE account_id = $1 AND source = $2 AND anchor = $3 AND months = $4;

-- name: ClosePeriod :exec
UPDATE balances SET ends_at = $3 WHERE account_id = $1 AND period = $2;

-- name: ChangePeriod :exec
UPDATE balances SET tier = sqlc.arg(tier), capped = sqlc.arg(capped), granted = granted + sqlc.arg(more_granted),
    included = included + sqlc.arg(more_granted)
WHERE account_id = sqlc.arg(account_id) AND period = sqlc.arg(period);

-- name: InsertGrant :exec
INSERT INTO credit_grants (id, account_id, period, kind, amount, source, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: KeyAccounts :many
SELECT id, account_id FROM api_keys WHERE id = ANY (sqlc.arg(ids)::text[]);

-- name: ExistingAccounts :many
SELECT id FROM accounts WHERE id = ANY (sqlc.arg(ids)::text[]);

-- name: FindUsageEvents :many
SELECT id, credits, fingerprint FROM usage_events
WHERE account_id = sqlc.arg(account_id) AND id = ANY (sqlc.arg(ids)::text[]);

-- name: InsertUsageEvents :copyfrom
INSERT INTO usage_events (account_id, id, period, key_id, category, provider, quantity, output_quantity, byok,
                          credits, occurred_at, recorded_at, fingerprint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: Spend :exec
UPDATE balances
SET tts = tts + sqlc.arg(tts), stt = stt + sqlc.arg(stt), llm = llm + sqlc.arg(llm), rag = rag + sqlc.arg(rag),
    requests = requests + sqlc.arg(requests)
WHERE account_id = sqlc.arg(account_id) AND period = sqlc.arg(period);
