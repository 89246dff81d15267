-- name: TakeInvalidation :one
-- Counts an invalidation and announces it, in one round trip, because the row stays locked until the commit.
WITH taken AS (
    UPDATE invalidations SET seq = seq + 1 RETURNING seq
)
SELECT taken.seq
FROM taken, LATERAL pg_notify('keymeter_invalidations', taken.seq || ' ' || sqlc.arg(target)::text);

-- name: LatestInvalidation :one
SELECT seq FROM invalidations;

-- name: RegisterReplica :one
-- Replaces what is left of earlier registrations. Must survive a crash of Postgres, whatever the server's default:
-- a replica whose row is lost would hold a lease that nobody waits for.
WITH durable AS MATERIALIZED (
    SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)
), gone AS (
    DELETE FROM replicas WHERE starts_with(replicas.id, sqlc.arg(earlier)::text)
)
INSERT INTO replicas (id, acked) SELECT sqlc.arg(id)::text, seq FROM invalidations, durable RETURNING acked;

-- name: AckInvalidations :execrows
-- Need not survive a crash, so it does not wait for the disk: it gives no lease, and lost it costs a wait.
WITH hasty AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
)
UPDATE replicas SET acked = sqlc.arg(acked) FROM hasty WHERE id = sqlc.arg(id);

-- name: RenewLease :one
-- Durable as the registration is: a lease stands on what this says was acknowledged.
WITH durable AS MATERIALIZED (
    SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)
)
UPDATE replicas SET acked = sqlc.arg(acked) FROM durable WHERE id = sqlc.arg(id)
RETURNING (SELECT seq FROM invalidations)::bigint AS seq;

-- name: InvalidationProgress :one
SELECT seq, (SELECT coalesce(min(acked), 9223372036854775807) FROM replicas)::bigint AS acked FROM invalidations;

-- name: DeleteSilentReplicas :many
DELETE FROM replicas WHERE acked < sqlc.arg(seq) RETURNING id;

-- name: DeleteReplica :exec
DELETE FROM replicas WHERE starts_with(id, sqlc.arg(earlier)::text);
