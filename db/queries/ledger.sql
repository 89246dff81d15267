-- name: LedgerEntries :many
-- The account's entries before a place, the latest first. Each kind has an index to begin at.
SELECT at, kind, id, period, credits, label, grant_id, reason, expires_at, unit_micros FROM ((
    SELECT created_at AS at, 'grant'::text AS kind, id, period, amount AS credits, g.kind AS label, id AS grant_id, reason,
           expires_at, 0::bigint AS unit_micros
    FROM credit_grants g
    WHERE account_id = (SELECT sqlc.arg(account_id)::text) AND 'grant' = ANY (sqlc.arg(kinds)::text[])
      AND created_at <= sqlc.arg(before)::timestamptz
      AND (created_at, 'grant'::text, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_kind)::text, sqlc.arg(before_id)::text)
    ORDER BY created_at DESC, id DESC LIMIT sqlc.arg(max_rows)
) UNION ALL (
    SELECT created_at, 'loss', id, period, -amount, cause, grant_id, ''::text, NULL::timestamptz, 0::bigint
    FROM credit_losses
    WHERE account_id = (SELECT sqlc.arg(account_id)::text) AND 'loss' = ANY (sqlc.arg(kinds)::text[]) AND amount > 0
      AND created_at <= sqlc.arg(before)::timestamptz
      AND (created_at, 'loss'::text, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_kind)::text, sqlc.arg(before_id)::text)
    ORDER BY created_at DESC, id DESC LIMIT sqlc.arg(max_rows)
) UNION ALL (
    SELECT created_at, 'overage', id, period, credits, subscription, ''::text, ''::text, NULL::timestamptz, unit_micros
    FROM overages
    WHERE account_id = (SELECT sqlc.arg(account_id)::text) AND 'overage' = ANY (sqlc.arg(kinds)::text[])
      AND created_at <= sqlc.arg(before)::timestamptz
      AND (created_at, 'overage'::text, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_kind)::text, sqlc.arg(before_id)::text)
    ORDER BY created_at DESC, id DESC LIMIT sqlc.arg(max_rows)
) UNION ALL (
    SELECT recorded_at, 'usage', id, period, -credits, category, ''::text, ''::text, NULL::timestamptz, 0::bigint
    FROM usage_events
    WHERE account_id = (SELECT sqlc.arg(account_id)::text) AND 'usage' = ANY (sqlc.arg(kinds)::text[])
      AND recorded_at <= sqlc.arg(before)::timestamptz
      AND (recorded_at, 'usage'::text, id) < (sqlc.arg(before)::timestamptz, sqlc.arg(before_kind)::text, sqlc.arg(before_id)::text)
    ORDER BY recorded_at DESC, id DESC LIMIT sqlc.arg(max_rows)
)) AS entries
ORDER BY at DESC, kind DESC, id DESC
LIMIT sqlc.arg(max_rows);

-- name: GetPeriod :one
SELECT * FROM balances WHERE account_id = $1 AND period = $2;

-- name: CarriedInto :one
-- What grants of earlier periods leave for a period.
SELECT (coalesce((SELECT sum(g.amount) FROM credit_grants g WHERE g.account_id = $1 AND g.period < $2), 0)
      - coalesce((SELECT sum(b.credits) FROM credit_burns b WHERE b.account_id = $1 AND b.period < $2), 0)
      - coalesce((SELECT sum(l.amount) FROM credit_losses l WHERE l.account_id = $1 AND l.period < $2), 0))::bigint;

-- name: GrantsOfPeriod :many
SELECT * FROM credit_grants WHERE account_id = $1 AND period = $2 ORDER BY created_at, id;

-- name: LossesOfPeriod :many
SELECT l.*, g.kind AS grant_kind FROM credit_losses l JOIN credit_grants g ON g.id = l.grant_id
WHERE l.account_id = $1 AND l.period = $2 AND l.amount > 0 ORDER BY l.created_at, l.id;

-- name: OveragesOfPeriod :many
SELECT * FROM overages WHERE account_id = $1 AND period = $2 ORDER BY created_at, id;
