-- The account stands in a subquery, so that the planner does not know which one it is: for a big one it would read what
-- belongs to others, or all there is, in the hope of finding enough of it soon.

-- name: UsagePoints :many
-- hour and from_hour are whole hours of UTC, so that a point is never of a part of an hour.
SELECT date_trunc(sqlc.arg(bucket)::text, hour, 'UTC')::timestamptz AS start,
       (CASE WHEN sqlc.arg(by_category)::boolean THEN category ELSE '' END)::text AS category_name,
       sum(credits)::bigint AS credits, sum(requests)::bigint AS requests
FROM usage_hours
WHERE account_id = (SELECT sqlc.arg(account_id)::text)
  AND hour >= sqlc.arg(from_hour)::timestamptz AND hour < sqlc.arg(until)::timestamptz
  AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: UsagePointsOfKey :many
-- Looks the key up in each hour in which the account was used. OFFSET 0 keeps Postgres from reading all keys instead.
SELECT date_trunc(sqlc.arg(bucket)::text, used.hour, 'UTC')::timestamptz AS start,
       (CASE WHEN sqlc.arg(by_category)::boolean THEN t.category ELSE '' END)::text AS category_name,
       sum(t.credits)::bigint AS credits, sum(t.requests)::bigint AS requests
FROM (
    SELECT DISTINCT hour FROM usage_hours
    WHERE account_id = (SELECT sqlc.arg(account_id)::text)
      AND hour >= sqlc.arg(from_hour)::timestamptz AND hour < sqlc.arg(until)::timestamptz
) AS used
CROSS JOIN LATERAL (
    SELECT category, credits, requests FROM usage_totals
    WHERE account_id = (SELECT sqlc.arg(account_id)::text) AND hour = used.hour AND key_id = sqlc.arg(key_id)::text
      AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
    OFFSET 0
) AS t
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: UsagePointsByKey :many
-- In no order, a bucket after the other: if there are too many points, it ends as soon as that is known.
SELECT used.start, t.key_id, t.category_name, t.credits, t.requests
FROM (
    SELECT DISTINCT date_trunc(sqlc.arg(bucket)::text, hour, 'UTC')::timestamptz AS start FROM usage_hours
    WHERE account_id = (SELECT sqlc.arg(account_id)::text)
      AND hour >= sqlc.arg(from_hour)::timestamptz AND hour < sqlc.arg(until)::timestamptz
) AS used
CROSS JOIN LATERAL (
    SELECT key_id, (CASE WHEN sqlc.arg(by_category)::boolean THEN category ELSE '' END)::text AS category_name,
           sum(credits)::bigint AS credits, sum(requests)::bigint AS requests
    FROM usage_totals
    WHERE account_id = (SELECT sqlc.arg(account_id)::text)
      AND hour >= greatest(used.start, sqlc.arg(from_hour)::timestamptz)
      AND hour < least(used.start + CASE sqlc.arg(bucket)::text WHEN 'day' THEN interval '24 hours' ELSE interval '1 hour' END,
                       sqlc.arg(until)::timestamptz)
      AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
    GROUP BY 1, 2
    OFFSET 0
) AS t
LIMIT sqlc.arg(max_rows);

-- name: ListUsageEvents :many
-- Looks at up to so many events and returns those that match. The last that it may look at is returned in any case, to
-- tell where it ended.
SELECT id, key_id, category, provider, quantity, output_quantity, byok, credits, late, reverses, occurred_at, recorded_at,
       matches::boolean AS matches, is_last::boolean AS is_last
FROM (
    SELECT *, (row_number() OVER (ORDER BY recorded_at DESC, id DESC) = sqlc.arg(max_looks))::boolean AS is_last,
           (sqlc.narg(key_id)::text IS NULL OR key_id IS NOT DISTINCT FROM sqlc.narg(key_id))
           AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
           AND (sqlc.narg(from_time)::timestamptz IS NULL OR occurred_at >= sqlc.narg(from_time))
           AND (sqlc.narg(until)::timestamptz IS NULL OR occurred_at < sqlc.narg(until)) AS matches
    FROM usage_events
    WHERE account_id = (SELECT sqlc.arg(account_id)::text)
      AND (recorded_at, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_id)::text)
      AND recorded_at >= sqlc.arg(recorded_from)::timestamptz
    ORDER BY recorded_at DESC, id DESC
    LIMIT sqlc.arg(max_looks)
) AS looked
WHERE matches OR is_last
ORDER BY recorded_at DESC, id DESC
LIMIT sqlc.arg(max_rows);

-- name: LatestHour :one
-- The latest hour in which the account, the key and the category were used, or the last of the hours that may be looked at.
SELECT hour
FROM (
    SELECT h.hour, h.category, row_number() OVER (ORDER BY h.hour DESC) AS place FROM usage_hours h
    WHERE h.account_id = (SELECT sqlc.arg(account_id)::text)
      AND h.hour <= sqlc.arg(latest)::timestamptz AND h.hour >= sqlc.arg(earliest)::timestamptz
      AND (sqlc.narg(category)::text IS NULL OR h.category = sqlc.narg(category))
    ORDER BY h.hour DESC
    LIMIT sqlc.arg(max_looks)
) AS looked
WHERE sqlc.narg(key_id)::text IS NULL OR place = sqlc.arg(max_looks) OR EXISTS (
    SELECT FROM usage_totals t
    WHERE t.account_id = (SELECT sqlc.arg(account_id)::text) AND t.hour = looked.hour AND t.key_id = sqlc.narg(key_id)
      AND t.category = looked.category
    OFFSET 0
)
ORDER BY hour DESC
LIMIT 1;

-- name: LatestBelated :one
-- When the latest of the belated events that match was recorded, or the last of those that may be looked at.
SELECT recorded_at
FROM (
    SELECT *, row_number() OVER (ORDER BY recorded_at DESC) AS place FROM usage_events
    WHERE account_id = (SELECT sqlc.arg(account_id)::text)
      AND recorded_at - occurred_at > interval '10 minutes'
      AND recorded_at <= sqlc.arg(before)::timestamptz AND recorded_at >= sqlc.arg(recorded_from)::timestamptz
    ORDER BY recorded_at DESC
    LIMIT sqlc.arg(max_looks)
) AS looked
WHERE place = sqlc.arg(max_looks)
   OR (sqlc.narg(key_id)::text IS NULL OR key_id IS NOT DISTINCT FROM sqlc.narg(key_id))
      AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
      AND (sqlc.narg(from_time)::timestamptz IS NULL OR occurred_at >= sqlc.narg(from_time))
      AND (sqlc.narg(until)::timestamptz IS NULL OR occurred_at < sqlc.narg(until))
ORDER BY recorded_at DESC
LIMIT 1;
