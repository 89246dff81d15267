-- name: UsagePoints :many
-- hour and from_hour are whole hours of UTC, so that a point is never of a part of an hour.
SELECT date_trunc(sqlc.arg(bucket)::text, hour, 'UTC')::timestamptz AS start,
       (CASE WHEN sqlc.arg(by_key)::boolean THEN key_id ELSE '' END)::text AS key,
       (CASE WHEN sqlc.arg(by_category)::boolean THEN category ELSE '' END)::text AS category_name,
       sum(credits)::bigint AS credits, sum(requests)::bigint AS requests
FROM usage_totals
WHERE account_id = sqlc.arg(account_id)
  AND hour >= sqlc.arg(from_hour)::timestamptz AND hour < sqlc.arg(until)::timestamptz
  AND (sqlc.narg(key_id)::text IS NULL OR key_id = sqlc.narg(key_id))
  AND (sqlc.narg(category)::text IS NULL OR category = sqlc.narg(category))
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
LIMIT sqlc.arg(max_rows);

-- name: ListUsageEvents :many
-- The bounds of recorded_at stand bare, so that any plan begins its scan of usage_events_by_time where the page begins. Of
-- a CASE the planner takes half of the rows to pass, of an OR hardly any: then a plan for all parameters would read and
-- sort the whole account.
SELECT id, key_id, category, provider, quantity, output_quantity, byok, credits, late, reverses, occurred_at, recorded_at
FROM usage_events
WHERE account_id = sqlc.arg(account_id)
  AND (recorded_at, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_id)::text)
  AND recorded_at >= sqlc.arg(recorded_from)::timestamptz
  AND CASE WHEN sqlc.narg(key_id)::text IS NULL THEN true ELSE key_id = sqlc.narg(key_id) END
  AND CASE WHEN sqlc.narg(category)::text IS NULL THEN true ELSE category = sqlc.narg(category) END
  AND CASE WHEN sqlc.narg(from_time)::timestamptz IS NULL THEN true ELSE occurred_at >= sqlc.narg(from_time) END
  AND CASE WHEN sqlc.narg(until)::timestamptz IS NULL THEN true ELSE occurred_at < sqlc.narg(until) END
ORDER BY recorded_at DESC, id DESC
LIMIT sqlc.arg(max_rows);
