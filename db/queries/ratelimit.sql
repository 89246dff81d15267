-- name: TakeRateTokens :one
-- Takes a chunk of a window's tokens unless the limit has been reached, and returns how many had been taken before: what
-- is left of the limit from there on, up to a chunk, is the caller's. So the last chunk may be taken beyond the limit, and
-- taken is the limit and a part of a chunk. No row if nothing is left.
INSERT INTO rate_windows AS w (subject, starts_at, taken)
VALUES (sqlc.arg(subject), sqlc.arg(starts_at), sqlc.arg(chunk)::bigint)
ON CONFLICT (subject, starts_at) DO UPDATE SET taken = w.taken + excluded.taken
WHERE w.taken < sqlc.arg(max_taken)::bigint
RETURNING (w.taken - sqlc.arg(chunk)::bigint)::bigint AS taken_before;

-- name: DeleteRateWindows :exec
-- Rows that another replica holds are left to it, so that two never wait for each other.
DELETE FROM rate_windows w
USING (
    SELECT o.subject, o.starts_at
    FROM rate_windows o JOIN (
        SELECT unnest(sqlc.arg(subjects)::text[]) AS subject, unnest(sqlc.arg(starts_at)::timestamptz[]) AS starts_at
    ) named ON named.subject = o.subject AND named.starts_at = o.starts_at
    FOR UPDATE OF o SKIP LOCKED
) over
WHERE w.subject = over.subject AND w.starts_at = over.starts_at;

-- name: DeleteRateWindowsBefore :exec
DELETE FROM rate_windows w
USING (
    SELECT o.subject, o.starts_at FROM rate_windows o WHERE o.starts_at < sqlc.arg(oldest)::timestamptz
    FOR UPDATE SKIP LOCKED
) over
WHERE w.subject = over.subject AND w.starts_at = over.starts_at;
