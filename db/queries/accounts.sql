-- name: InsertAccount :exec
INSERT INTO accounts (id, external_id, name, email, tier, created_at)
VALUES ($1, $2, $3, $4, $5, $6);

-- name: GetAccount :one
SELECT a.*, b.customer_id
FROM accounts a LEFT JOIN billing_accounts b ON b.account_id = a.id
WHERE a.id = $1;

-- name: ListAccounts :many
SELECT a.*, b.customer_id
FROM accounts a LEFT JOIN billing_accounts b ON b.account_id = a.id
WHERE (sqlc.narg(before)::text IS NULL OR a.id < sqlc.narg(before))
  AND (sqlc.narg(external_id)::text IS NULL OR a.external_id = sqlc.narg(external_id))
ORDER BY a.id DESC
LIMIT sqlc.arg(max_rows);

-- name: AccountExists :one
SELECT EXISTS (SELECT FROM accounts WHERE id = $1);

-- name: SuspendAccount :execrows
UPDATE accounts SET suspended_at = coalesce(suspended_at, sqlc.arg(now)::timestamptz) WHERE id = sqlc.arg(id);

-- name: ResumeAccount :execrows
UPDATE accounts SET suspended_at = NULL WHERE id = $1;

-- name: SetAccountRateLimit :execrows
UPDATE accounts SET rate_requests = sqlc.narg(requests), rate_seconds = sqlc.narg(seconds) WHERE id = sqlc.arg(id);

-- name: SetAccountTier :exec
UPDATE accounts SET tier = $2 WHERE id = $1;
