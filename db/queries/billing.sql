-- name: GetBillingAccount :one
SELECT * FROM billing_accounts WHERE account_id = $1;

-- name: LockBillingAccount :one
SELECT * FROM billing_accounts WHERE account_id = $1 FOR NO KEY UPDATE;

-- name: FindBillingAccountByCustomer :one
SELECT * FROM billing_accounts WHERE customer_id = $1;

-- name: EnsureBillingAccount :exec
INSERT INTO billing_accounts (account_id) VALUES ($1) ON CONFLICT (account_id) DO NOTHING;

-- name: ClaimCheckout :execrows
UPDATE billing_accounts SET busy_until = sqlc.arg(until)::timestamptz
WHERE account_id = sqlc.arg(account_id)
  AND (busy_until IS NULL OR busy_until <= sqlc.arg(now)::timestamptz);

-- name: ReleaseCheckout :exec
UPDATE billing_accounts SET busy_until = NULL
WHERE account_id = sqlc.arg(account_id) AND busy_until = sqlc.arg(until)::timestamptz;

-- name: SetCustomer :exec
UPDATE billing_accounts SET customer_id = sqlc.arg(customer_id)::text
WHERE account_id = sqlc.arg(account_id) AND customer_id IS NULL;

-- name: SetSubscription :exec
UPDATE billing_accounts
SET subscription_id = sqlc.narg(subscription_id), subscription_status = sqlc.narg(subscription_status),
    current_period_end = sqlc.narg(current_period_end), past_due_since = sqlc.narg(past_due_since),
    check_at = coalesce(sqlc.narg(check_at), CASE WHEN check_at > sqlc.arg(now)::timestamptz THEN check_at END),
    version = version + 1
WHERE account_id = sqlc.arg(account_id);

-- name: CheckBy :exec
UPDATE billing_accounts SET check_at = least(check_at, sqlc.arg(at)::timestamptz) WHERE account_id = sqlc.arg(account_id);

-- name: Checked :exec
UPDATE billing_accounts
SET check_at = CASE WHEN check_at > sqlc.arg(now)::timestamptz THEN check_at END, version = version + 1
WHERE account_id = sqlc.arg(account_id);

-- name: ClearCustomer :exec
UPDATE billing_accounts SET customer_id = NULL, version = version + 1 WHERE account_id = $1;

-- name: ListBillingAccountsToCheck :many
SELECT * FROM billing_accounts
WHERE check_at <= sqlc.arg(now)::timestamptz AND customer_id IS NOT NULL ORDER BY check_at LIMIT sqlc.arg(max_rows);

-- name: PutOffCheck :exec
UPDATE billing_accounts SET check_at = sqlc.arg(check_at)::timestamptz
WHERE account_id = sqlc.arg(account_id) AND check_at IS NOT NULL;

-- name: InsertStripeEvents :execrows
INSERT INTO stripe_events (id, type, customer_id, received_at, next_attempt_at)
SELECT unnest(sqlc.arg(ids)::text[]), unnest(sqlc.arg(types)::text[]), unnest(sqlc.arg(customer_ids)::text[]),
    sqlc.arg(received_at)::timestamptz, sqlc.arg(received_at)::timestamptz
ON CONFLICT (id) DO NOTHING;

-- name: ClaimStripeEvents :many
-- The first open event of a customer stands for all of them: whoever has claimed it has claimed the customer. One that comes
-- meanwhile may sort before it, and waits as well.
WITH first AS (
    SELECT e.id, e.customer_id FROM stripe_events e
    WHERE e.handled_at IS NULL AND e.next_attempt_at <= sqlc.arg(now)::timestamptz
      AND NOT EXISTS (
          SELECT FROM stripe_events o
          WHERE o.handled_at IS NULL AND o.customer_id = e.customer_id
            AND ((o.received_at, o.id) < (e.received_at, e.id) OR o.next_attempt_at > sqlc.arg(now)::timestamptz))
    ORDER BY e.next_attempt_at
    LIMIT 1
    FOR UPDATE OF e SKIP LOCKED
)
UPDATE stripe_events e SET next_attempt_at = sqlc.arg(until)::timestamptz, attempts = e.attempts + 1
FROM first
WHERE e.handled_at IS NULL AND e.customer_id = first.customer_id
RETURNING e.id, e.type, first.customer_id, e.attempts;

-- name: HandledStripeEvents :exec
UPDATE stripe_events
SET handled_at = sqlc.arg(now)::timestamptz, account_id = sqlc.narg(account_id), last_error = NULL
WHERE id = ANY(sqlc.arg(ids)::text[]);

-- name: FailedStripeEvents :exec
UPDATE stripe_events
SET next_attempt_at = sqlc.arg(next_attempt_at)::timestamptz, last_error = sqlc.arg(last_error)::text
WHERE id = ANY(sqlc.arg(ids)::text[]) AND handled_at IS NULL;

-- name: ForgetStripeEvents :execrows
DELETE FROM stripe_events WHERE id IN (
    SELECT id FROM stripe_events WHERE handled_at < sqlc.arg(before)::timestamptz LIMIT sqlc.arg(max_rows));

-- name: InsertDuplicateSubscription :exec
INSERT INTO duplicate_subscriptions (subscription_id, account_id, kept_id, found_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (subscription_id) DO NOTHING;

-- name: ListDuplicateSubscriptions :many
SELECT * FROM duplicate_subscriptions WHERE account_id = $1 ORDER BY subscription_id;

-- name: CancelledDuplicateSubscription :exec
UPDATE duplicate_subscriptions SET cancelled_at = sqlc.arg(now)::timestamptz
WHERE subscription_id = sqlc.arg(subscription_id);

-- name: CountBillingTroubles :one
SELECT
    (SELECT count(*) FROM stripe_events WHERE handled_at IS NULL AND last_error IS NOT NULL) AS failing_events,
    (SELECT count(*) FROM duplicate_subscriptions) AS duplicates,
    (SELECT count(*) FROM overage_bills WHERE state = 'pending') AS pending_overage,
    (SELECT count(*) FROM overage_bills WHERE state = 'parked') AS parked_overage;

-- name: EnsureReconciliation :exec
INSERT INTO reconciliation (events_until) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: ClaimReconciliation :one
UPDATE reconciliation SET busy_until = sqlc.arg(until)::timestamptz
WHERE busy_until IS NULL OR busy_until <= sqlc.arg(now)::timestamptz
RETURNING events_until;

-- name: MoveReconciliation :exec
UPDATE reconciliation SET events_until = $1;

-- name: ReleaseReconciliation :exec
UPDATE reconciliation SET busy_until = NULL WHERE busy_until = sqlc.arg(until)::timestamptz;

-- name: InsertOverageBill :exec
INSERT INTO overage_bills (
    overage_id, account_id, customer_id, subscription_id, starts_at, ends_at, credits, unit_micros, amount_cents, state,
    next_attempt_at)
VALUES (
    sqlc.arg(overage_id), sqlc.arg(account_id), sqlc.narg(customer_id), sqlc.narg(subscription_id), sqlc.arg(starts_at),
    sqlc.arg(ends_at), sqlc.arg(credits), sqlc.arg(unit_micros), sqlc.arg(amount_cents), sqlc.arg(state), sqlc.arg(now))
ON CONFLICT (overage_id) DO NOTHING;

-- name: ClaimOverageBill :one
UPDATE overage_bills SET next_attempt_at = sqlc.arg(until)::timestamptz, attempts = attempts + 1
WHERE overage_id = (
    SELECT overage_id FROM overage_bills
    WHERE state = 'pending' AND next_attempt_at <= sqlc.arg(now)::timestamptz
    ORDER BY next_attempt_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: BilledOverage :exec
UPDATE overage_bills
SET state = 'billed', invoice_id = sqlc.narg(invoice_id), item_id = sqlc.narg(item_id), last_error = NULL
WHERE overage_id = sqlc.arg(overage_id);

-- name: WaivedOverage :exec
UPDATE overage_bills SET state = 'voided', item_id = sqlc.narg(item_id), last_error = NULL
WHERE overage_id = sqlc.arg(overage_id);

-- name: FailedOverageBill :exec
UPDATE overage_bills
SET state = sqlc.arg(state), last_error = sqlc.arg(last_error)::text, next_attempt_at = sqlc.arg(next_attempt_at)::timestamptz
WHERE overage_id = sqlc.arg(overage_id);

-- name: RetryOverageBill :execrows
UPDATE overage_bills SET state = 'pending', attempts = 0, next_attempt_at = sqlc.arg(now)::timestamptz
WHERE overage_id = sqlc.arg(overage_id) AND state IN ('parked', 'voided');

-- name: OverageBillExists :one
SELECT EXISTS (SELECT FROM overage_bills WHERE overage_id = $1);

-- name: ReviveStrandedOverage :execrows
-- What went onto an invoice of a subscription that has ended since: it may never come, or be left a draft. Once each: an
-- invoice of our own leaves no item_id.
UPDATE overage_bills SET state = 'pending', next_attempt_at = sqlc.arg(now)::timestamptz
WHERE account_id = sqlc.arg(account_id) AND subscription_id = ANY(sqlc.arg(ended)::text[])
  AND state = 'billed' AND item_id IS NOT NULL;

-- name: ListBilledOverage :many
SELECT overage_id FROM overage_bills WHERE account_id = $1 AND state = 'billed' AND amount_cents > 0;

-- name: VoidOverageBills :exec
UPDATE overage_bills SET state = 'voided'
WHERE account_id = sqlc.arg(account_id) AND overage_id = ANY(sqlc.arg(overage_ids)::text[]) AND state = 'billed';

-- name: InsertTopUp :exec
INSERT INTO top_ups (session_id, account_id, credits, amount_cents, granted_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (session_id) DO NOTHING;

-- name: ReclaimTopUp :one
-- How much more is asked back than before; below 0 if it is less, since a dispute was won or a refund has failed.
WITH before AS (SELECT b.session_id, b.reclaimed FROM top_ups b WHERE b.session_id = sqlc.arg(session_id) FOR UPDATE)
UPDATE top_ups t
SET reclaimed = sqlc.arg(reclaimed)::bigint,
    changes = t.changes + CASE WHEN t.reclaimed = sqlc.arg(reclaimed)::bigint THEN 0 ELSE 1 END
FROM before WHERE t.session_id = before.session_id
RETURNING (t.reclaimed - before.reclaimed)::bigint AS more, t.changes;

-- name: ListOverageWithoutBill :many
SELECT o.* FROM overages o
WHERE o.account_id = $1 AND NOT EXISTS (SELECT FROM overage_bills b WHERE b.overage_id = o.id);

-- name: ListAccountsWithNewOverage :many
SELECT DISTINCT o.account_id FROM overages o
WHERE o.created_at > sqlc.arg(since)::timestamptz
  AND NOT EXISTS (SELECT FROM overage_bills b WHERE b.overage_id = o.id)
LIMIT sqlc.arg(max_rows);

-- name: ListFailingStripeEvents :many
SELECT * FROM stripe_events WHERE handled_at IS NULL AND last_error IS NOT NULL ORDER BY received_at, id LIMIT $1;

-- name: ListOpenOverage :many
SELECT * FROM overage_bills
WHERE state IN ('parked', 'voided', 'unbilled') OR (state = 'pending' AND last_error IS NOT NULL)
ORDER BY state, overage_id DESC
LIMIT $1;
