-- name: InsertKey :exec
INSERT INTO api_keys (id, account_id, hash, pepper_version, prefix, name, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: ListKeys :many
SELECT id, name, prefix, created_at, expires_at, last_used_at
FROM api_keys
WHERE account_id = sqlc.arg(account_id)
  AND revoked_at IS NULL
  AND (sqlc.narg(before)::text IS NULL OR id < sqlc.narg(before))
ORDER BY id DESC
LIMIT sqlc.arg(max_rows);

-- name: KeyExists :one
SELECT EXISTS (SELECT FROM api_keys WHERE account_id = $1 AND id = $2);

-- name: LockKey :one
SELECT id, name, expires_at, revoked_at, rotated_to
FROM api_keys
WHERE account_id = $1 AND id = $2
FOR UPDATE;

-- name: RevokeKey :execrows
UPDATE api_keys SET revoked_at = sqlc.arg(now)::timestamptz
WHERE account_id = sqlc.arg(account_id) AND id = sqlc.arg(id) AND revoked_at IS NULL;

-- name: ReplaceKey :exec
UPDATE api_keys SET revoked_at = sqlc.arg(now)::timestamptz, rotated_to = sqlc.arg(rotated_to)::text
WHERE account_id = sqlc.arg(account_id) AND id = sqlc.arg(id);

-- name: FindKeyByHash :one
SELECT k.id, k.account_id, k.expires_at, k.revoked_at, a.suspended_at
FROM api_keys k JOIN accounts a ON a.id = k.account_id
WHERE k.hash = ANY (sqlc.arg(hashes)::bytea[]);

-- name: TouchKeys :exec
-- Locked in the order of their ids, so that two replicas never wait for each other.
WITH used AS (
    SELECT unnest(sqlc.arg(ids)::text[]) AS id, unnest(sqlc.arg(used_at)::timestamptz[]) AS used_at
), locked AS (
    SELECT k.id, used.used_at FROM api_keys k JOIN used ON used.id = k.id
    ORDER BY k.id FOR UPDATE OF k
)
UPDATE api_keys k SET last_used_at = locked.used_at
FROM locked
WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.used_at);
