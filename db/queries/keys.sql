-- name: InsertKey :exec
INSERT INTO api_keys (id, account_id, hash, pepper_version, prefix, name, created_at, expires_at, family, enabled, scopes,
                      credit_limit, rate_requests, rate_seconds, allowed_ips, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: InsertPlainKeys :many
-- An expiry at the epoch is none.
INSERT INTO api_keys (id, account_id, hash, pepper_version, prefix, name, created_at, expires_at, family)
SELECT n.id, n.account_id, n.hash, n.pepper_version, n.prefix, n.name, n.created_at, nullif(n.expires_at, 'epoch'), n.id
FROM (SELECT unnest(sqlc.arg(ids)::text[]) AS id, unnest(sqlc.arg(account_ids)::text[]) AS account_id,
             unnest(sqlc.arg(hashes)::bytea[]) AS hash, unnest(sqlc.arg(pepper_versions)::integer[]) AS pepper_version,
             unnest(sqlc.arg(prefixes)::text[]) AS prefix, unnest(sqlc.arg(names)::text[]) AS name,
             unnest(sqlc.arg(created_at)::timestamptz[]) AS created_at,
             unnest(sqlc.arg(expires_at)::timestamptz[]) AS expires_at) AS n
JOIN accounts a ON a.id = n.account_id
RETURNING id;

-- name: ListKeys :many
-- The account stands in a subquery, so that the planner does not know which one it is: for a big one it would walk the
-- keys of all accounts, in the hope that most are its own.
SELECT * FROM api_keys
WHERE account_id = (SELECT sqlc.arg(account_id)::text)
  AND revoked_at IS NULL
  AND (rotated_to IS NULL OR expires_at > sqlc.arg(now)::timestamptz) -- the old one of an overlap that is over is gone
  AND id < coalesce(sqlc.narg(before)::text, '~') -- not an OR, so that a page deep in the list begins where it is
ORDER BY id DESC
LIMIT sqlc.arg(max_rows);

-- name: GetKey :one
SELECT * FROM api_keys WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL;

-- name: KeyExists :one
SELECT EXISTS (SELECT FROM api_keys WHERE account_id = $1 AND id = $2);

-- name: LockKey :one
SELECT * FROM api_keys WHERE account_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: RevokeKey :one
UPDATE api_keys SET revoked_at = sqlc.arg(now)::timestamptz
WHERE account_id = sqlc.arg(account_id) AND id = sqlc.arg(id) AND revoked_at IS NULL
RETURNING hash;

-- name: ReplaceKey :exec
UPDATE api_keys
SET revoked_at = sqlc.narg(revoked_at), expires_at = sqlc.narg(expires_at), rotated_to = sqlc.arg(rotated_to)::text
WHERE account_id = sqlc.arg(account_id) AND id = sqlc.arg(id);

-- name: UpdateKey :exec
UPDATE api_keys
SET name = sqlc.arg(name), expires_at = sqlc.narg(expires_at), enabled = sqlc.arg(enabled), scopes = sqlc.narg(scopes),
    credit_limit = sqlc.narg(credit_limit), rate_requests = sqlc.narg(rate_requests),
    rate_seconds = sqlc.narg(rate_seconds), allowed_ips = sqlc.narg(allowed_ips), metadata = sqlc.narg(metadata)
WHERE account_id = sqlc.arg(account_id) AND id = sqlc.arg(id);

-- name: FindKeysByHash :many
SELECT k.hash, k.id, k.account_id, k.family, k.expires_at, k.revoked_at, k.enabled, k.scopes, k.credit_limit,
       k.rate_requests, k.rate_seconds, k.allowed_ips, k.metadata,
       a.tier, a.suspended_at, a.rate_requests AS account_rate_requests, a.rate_seconds AS account_rate_seconds
FROM api_keys k JOIN accounts a ON a.id = k.account_id
WHERE k.hash = ANY (sqlc.arg(hashes)::bytea[]);

-- name: TouchKeys :exec
-- Locked in the order of their ids, so that two replicas never wait for each other.
WITH used AS (
    SELECT unnest(sqlc.arg(ids)::text[]) AS id, unnest(sqlc.arg(used_at)::timestamptz[]) AS used_at
), locked AS (
    SELECT k.id, used.used_at FROM api_keys k JOIN used ON used.id = k.id
    ORDER BY k.id FOR NO KEY UPDATE OF k
)
UPDATE api_keys k SET last_used_at = locked.used_at
FROM locked
WHERE k.id = locked.id AND (k.last_used_at IS NULL OR k.last_used_at < locked.used_at);
