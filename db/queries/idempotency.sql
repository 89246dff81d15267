-- name: ClaimIdempotencyKey :execrows
-- Waits for a concurrent claim of the same key to commit or roll back. A claim that is too old, or whose owner died,
-- is taken over.
INSERT INTO idempotency_keys (scope, key_hash, fingerprint, busy_until, created_at)
VALUES (sqlc.arg(scope), sqlc.arg(key_hash), sqlc.arg(fingerprint), sqlc.narg(busy_until), sqlc.arg(now))
ON CONFLICT (scope, key_hash) DO UPDATE
SET fingerprint = excluded.fingerprint, busy_until = excluded.busy_until, created_at = excluded.created_at,
    answer = NULL
WHERE idempotency_keys.created_at <= sqlc.arg(oldest)::timestamptz
   OR (idempotency_keys.answer IS NULL AND idempotency_keys.fingerprint = excluded.fingerprint
       AND idempotency_keys.busy_until <= sqlc.arg(now)::timestamptz);

-- name: GetIdempotencyKey :one
SELECT * FROM idempotency_keys WHERE scope = $1 AND key_hash = $2;

-- name: AnswerIdempotencyKey :exec
-- The first answer stays.
UPDATE idempotency_keys SET answer = sqlc.arg(answer), busy_until = NULL
WHERE scope = sqlc.arg(scope) AND key_hash = sqlc.arg(key_hash) AND answer IS NULL;

-- name: ReleaseIdempotencyKey :exec
DELETE FROM idempotency_keys
WHERE scope = sqlc.arg(scope) AND key_hash = sqlc.arg(key_hash) AND answer IS NULL
  AND busy_until = sqlc.arg(busy_until)::timestamptz;

-- name: DeleteIdempotencyKeys :exec
DELETE FROM idempotency_keys WHERE created_at <= sqlc.arg(oldest)::timestamptz;
