-- The open period of an account is its last one, also when it is over and no other has begun yet.

-- name: OpenBalance :one
SELECT * FROM balances WHERE account_id = $1 AND NOT closed;

-- name: LockOpenBalance :one
-- Whoever waits for the row finds nothing if the period was closed meanwhile.
SELECT * FROM balances WHERE account_id = $1 AND NOT closed FOR NO KEY UPDATE;

-- name: LockOpenBalances :many
-- In the order of the ids. expired is a hint, from before the wait for the locks, that holds have run out.
SELECT b.*,
       (b.held > 0 AND EXISTS (
           SELECT FROM reservations r
           WHERE r.account_id = b.account_id AND r.state = 'held' AND r.expires_at <= sqlc.arg(now)::timestamptz
       ))::boolean AS expired
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS id) AS wanted
CROSS JOIN LATERAL (
    SELECT * FROM balances WHERE account_id = wanted.id AND NOT closed FOR NO KEY UPDATE
) AS b;

-- name: LockAccountTier :one
-- Whoever opens, closes or changes a period holds the account's row.
SELECT tier, created_at FROM accounts WHERE id = $1 FOR NO KEY UPDATE;

-- name: InsertBalance :exec
INSERT INTO balances (account_id, period, source, anchor, months, starts_at, ends_at, valid_until, tier, granted, included,
                      overage_limit, overage_micros, reserves)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: SetTerms :exec
UPDATE balances
SET tier = sqlc.arg(tier), granted = sqlc.arg(granted), included = sqlc.arg(included), valid_until = sqlc.arg(valid_until),
    overage = sqlc.arg(overage), overage_limit = sqlc.narg(overage_limit), overage_off = sqlc.arg(overage_off),
    overage_micros = sqlc.arg(overage_micros),
    alert_at = sqlc.narg(alert_at)
WHERE account_id = sqlc.arg(account_id) AND period = sqlc.arg(period);

-- name: ShortenPeriod :exec
UPDATE balances SET ends_at = $3, valid_until = least(valid_until, $3) WHERE account_id = $1 AND period = $2;

-- name: ClosePeriod :exec
UPDATE balances SET closed = true WHERE account_id = $1 AND NOT closed;

-- name: MarkReserves :exec
UPDATE balances SET reserves = true WHERE account_id = $1 AND NOT closed;

-- name: InsertGrant :execrows
INSERT INTO credit_grants (id, account_id, period, kind, amount, source, reason, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (account_id, source) DO NOTHING;

-- name: OpenGrants :many
-- Grants of which something is left, before what the open period uses of them.
SELECT id, kind, source, period, created_at, expires_at, available FROM (
    SELECT g.*, (g.amount
        - coalesce((SELECT sum(b.credits) FROM credit_burns b WHERE b.account_id = g.account_id AND b.grant_id = g.id), 0)
        - coalesce((SELECT sum(l.amount) FROM credit_losses l WHERE l.account_id = g.account_id AND l.grant_id = g.id), 0)
    )::bigint AS available
    FROM credit_grants g WHERE g.account_id = $1
) AS granted
WHERE available > 0;

-- name: InsertBurns :exec
INSERT INTO credit_burns (account_id, grant_id, period, credits, created_at)
SELECT sqlc.arg(account_id), unnest(sqlc.arg(grant_ids)::text[]), sqlc.arg(period), unnest(sqlc.arg(credits)::bigint[]),
       sqlc.arg(now)::timestamptz;

-- name: InsertLoss :exec
INSERT INTO credit_losses (id, account_id, grant_id, period, amount, cause, source, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: GrantAndGivenBack :many
-- The grant of a source, and then what was given back of it.
SELECT g.id, g.source, g.kind, g.amount, g.expires_at, coalesce((
    SELECT sum(l.amount) FROM credit_losses l
    WHERE l.account_id = g.account_id AND l.grant_id = g.id AND l.cause = 'taken_back'), 0)::bigint AS taken
FROM credit_grants g
WHERE g.account_id = sqlc.arg(account_id)
  AND (g.source = sqlc.arg(source) OR starts_with(g.source, sqlc.arg(given_back)::text))
ORDER BY g.source <> sqlc.arg(source), g.created_at, g.id;

-- name: LossesOfSource :one
SELECT count(*), coalesce(sum(amount), 0)::bigint AS amount FROM credit_losses
WHERE account_id = $1 AND grant_id = ANY (sqlc.arg(grant_ids)::text[]) AND source = $2;

-- name: LossesOfLeaving :many
SELECT l.id, l.amount, g.expires_at
FROM credit_losses l JOIN credit_grants g ON g.id = l.grant_id
WHERE l.account_id = $1 AND l.cause = 'left' AND l.source = $2
ORDER BY l.created_at, l.id;

-- name: IncludedOfMonth :one
SELECT coalesce(max(included), 0)::bigint FROM balances WHERE account_id = $1 AND source = $2 AND anchor = $3 AND months = $4;

-- name: FindGrant :one
SELECT id FROM credit_grants WHERE account_id = $1 AND source = $2;

-- name: BurnedOfGrant :one
-- What closed periods used of the grant that a source gave.
SELECT coalesce(sum(b.credits), 0)::bigint
FROM credit_grants g JOIN credit_burns b ON b.account_id = g.account_id AND b.grant_id = g.id
WHERE g.account_id = $1 AND g.source = $2;

-- name: CountOverage :one
SELECT count(*) FROM overages WHERE account_id = $1 AND period = $2;

-- name: InsertOverage :exec
INSERT INTO overages (id, account_id, period, subscription, starts_at, ends_at, credits, unit_micros, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: CreditSettings :one
SELECT * FROM credit_settings WHERE account_id = $1;

-- name: KeyOwners :many
SELECT id, account_id, family, credit_limit FROM api_keys WHERE id = ANY (sqlc.arg(ids)::text[]);

-- The queries of a batch of events take arrays of equal lengths.

-- name: FindEvents :many
SELECT e.account_id, e.id, e.credits, e.late, e.fingerprint
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS account_id, unnest(sqlc.arg(ids)::text[]) AS id) AS sent
CROSS JOIN LATERAL (
    SELECT * FROM usage_events u WHERE u.account_id = sent.account_id AND u.id = sent.id LIMIT 1
) AS e;

-- name: FindReservedEvents :many
SELECT r.account_id, r.event_id
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS account_id, unnest(sqlc.arg(ids)::text[]) AS id) AS sent
CROSS JOIN LATERAL (
    SELECT v.account_id, v.event_id FROM reservations v
    WHERE v.account_id = sent.account_id AND v.event_id = sent.id LIMIT 1
) AS r;

-- name: LatestKeyBudgets :many
-- The latest period that each family of keys spent in.
SELECT b.account_id, b.family, b.period, b.used, b.held
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS account_id, unnest(sqlc.arg(families)::text[]) AS family) AS wanted
CROSS JOIN LATERAL (
    SELECT * FROM key_budgets k WHERE k.account_id = wanted.account_id AND k.family = wanted.family
    ORDER BY period DESC LIMIT 1
) AS b;

-- name: InsertEvents :copyfrom
INSERT INTO usage_events (account_id, id, period, key_id, category, provider, quantity, output_quantity, byok,
                          credits, uncollected, late, reverses, occurred_at, recorded_at, fingerprint)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: AddToBalances :exec
UPDATE balances b
SET tts = b.tts + d.tts, stt = b.stt + d.stt, llm = b.llm + d.llm, rag = b.rag + d.rag,
    requests = b.requests + d.requests, held = b.held + d.held, granted = b.granted + d.granted
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS account_id, unnest(sqlc.arg(periods)::integer[]) AS period,
             unnest(sqlc.arg(tts)::bigint[]) AS tts, unnest(sqlc.arg(stt)::bigint[]) AS stt,
             unnest(sqlc.arg(llm)::bigint[]) AS llm, unnest(sqlc.arg(rag)::bigint[]) AS rag,
             unnest(sqlc.arg(requests)::bigint[]) AS requests, unnest(sqlc.arg(held)::bigint[]) AS held,
             unnest(sqlc.arg(granted)::bigint[]) AS granted) AS d
WHERE b.account_id = d.account_id AND b.period = d.period;

-- name: AddToUsageTotals :exec
INSERT INTO usage_totals AS t (account_id, hour, key_id, category, credits, requests)
SELECT unnest(sqlc.arg(account_ids)::text[]), unnest(sqlc.arg(hours)::timestamptz[]), unnest(sqlc.arg(key_ids)::text[]),
       unnest(sqlc.arg(categories)::text[]), unnest(sqlc.arg(credits)::bigint[]), unnest(sqlc.arg(requests)::bigint[])
ON CONFLICT (account_id, hour, key_id, category)
DO UPDATE SET credits = t.credits + excluded.credits, requests = t.requests + excluded.requests;

-- name: AddToUsageHours :exec
INSERT INTO usage_hours AS h (account_id, hour, category, credits, requests)
SELECT unnest(sqlc.arg(account_ids)::text[]), unnest(sqlc.arg(hours)::timestamptz[]), unnest(sqlc.arg(categories)::text[]),
       unnest(sqlc.arg(credits)::bigint[]), unnest(sqlc.arg(requests)::bigint[])
ON CONFLICT (account_id, hour, category)
DO UPDATE SET credits = h.credits + excluded.credits, requests = h.requests + excluded.requests;

-- name: SpendKeyBudgets :exec
-- A limit of -1 is none. One that was lowered under what is used and held already must not fail the check, but nothing
-- may be added beyond it.
INSERT INTO key_budgets AS b (account_id, family, period, used, held, credit_limit)
SELECT unnest(sqlc.arg(account_ids)::text[]), unnest(sqlc.arg(families)::text[]), unnest(sqlc.arg(periods)::integer[]),
       unnest(sqlc.arg(used)::bigint[]), unnest(sqlc.arg(held)::bigint[]), nullif(unnest(sqlc.arg(credit_limits)::bigint[]), -1)
ON CONFLICT (account_id, family, period) DO UPDATE
SET used = b.used + excluded.used, held = b.held + excluded.held,
    credit_limit = CASE WHEN excluded.credit_limit IS NOT NULL THEN greatest(excluded.credit_limit, b.used + b.held) END;

-- name: EnsureKeyBudgets :exec
-- Before AddToKeyBudgets: a row that is inserted must pass the checks, and what is added may be negative.
INSERT INTO key_budgets (account_id, family, period)
SELECT unnest(sqlc.arg(account_ids)::text[]), unnest(sqlc.arg(families)::text[]), unnest(sqlc.arg(periods)::integer[])
ON CONFLICT DO NOTHING;

-- name: AddToKeyBudgets :exec
-- As SpendKeyBudgets; a limit of -2 leaves it.
UPDATE key_budgets b
SET used = b.used + d.used, held = b.held + d.held,
    credit_limit = CASE d.credit_limit WHEN -1 THEN NULL WHEN -2 THEN b.credit_limit
                   ELSE greatest(d.credit_limit, b.used + b.held) END
FROM (SELECT unnest(sqlc.arg(account_ids)::text[]) AS account_id, unnest(sqlc.arg(families)::text[]) AS family,
             unnest(sqlc.arg(periods)::integer[]) AS period, unnest(sqlc.arg(used)::bigint[]) AS used,
             unnest(sqlc.arg(held)::bigint[]) AS held, unnest(sqlc.arg(credit_limits)::bigint[]) AS credit_limit) AS d
WHERE b.account_id = d.account_id AND b.family = d.family AND b.period = d.period;

-- Reservations. Whoever writes one holds the row of the account's current period.

-- name: FindReservation :one
SELECT * FROM reservations WHERE id = $1;

-- name: FindReservationOfEvent :one
SELECT * FROM reservations WHERE account_id = $1 AND event_id = $2;

-- name: InsertReservation :exec
INSERT INTO reservations (id, account_id, event_id, period, key_id, family, category, held, state, fingerprint,
                          created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'held', $9, $10, $11);

-- name: EndReservation :exec
UPDATE reservations
SET state = sqlc.arg(state), credits = sqlc.narg(credits), uncollected = sqlc.narg(uncollected),
    settlement = sqlc.narg(settlement)
WHERE id = sqlc.arg(id);

-- name: ExpireReservations :many
UPDATE reservations SET state = 'expired'
WHERE account_id = ANY (sqlc.arg(account_ids)::text[]) AND state = 'held' AND expires_at <= sqlc.arg(now)::timestamptz
RETURNING account_id, period, coalesce(family, '')::text AS family, held;

-- name: AccountsWithExpiredReservations :many
SELECT DISTINCT account_id FROM (
    SELECT account_id FROM reservations WHERE state = 'held' AND expires_at <= sqlc.arg(now)::timestamptz
    ORDER BY expires_at LIMIT sqlc.arg(max_rows)
) AS expired;

-- name: FindEventToReverse :one
SELECT e.period, e.key_id, coalesce(k.family, '')::text AS family, k.credit_limit, e.category, e.credits, e.reverses
FROM usage_events e LEFT JOIN api_keys k ON k.id = e.key_id
WHERE e.account_id = $1 AND e.id = $2;

-- name: SetAlertPercents :exec
INSERT INTO credit_settings (account_id, alert_percents) VALUES ($1, $2)
ON CONFLICT (account_id) DO UPDATE SET alert_percents = excluded.alert_percents;

-- name: InsertAlerts :exec
INSERT INTO credit_alerts (account_id, period, percent, used, granted, raised_at)
SELECT sqlc.arg(account_id), sqlc.arg(period), unnest(sqlc.arg(percents)::smallint[]), sqlc.arg(used), sqlc.arg(granted),
       sqlc.arg(now)::timestamptz
ON CONFLICT DO NOTHING;

-- name: SetAlertAt :exec
UPDATE balances SET alert_at = sqlc.narg(alert_at) WHERE account_id = sqlc.arg(account_id) AND period = sqlc.arg(period);

-- name: AlertsOfPeriod :many
SELECT * FROM credit_alerts WHERE account_id = $1 AND period = $2 ORDER BY percent;

-- name: SetOverageLimit :exec
INSERT INTO credit_settings (account_id, overage_limit) VALUES ($1, $2)
ON CONFLICT (account_id) DO UPDATE SET overage_limit = excluded.overage_limit;
