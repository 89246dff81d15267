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
    current_period_end = sqlc.narg(current_period_end), version = version + 1
WHERE account_id = sqlc.arg(account_id);

-- name: StripeEventHandled :one
SELECT EXISTS (SELECT FROM stripe_events WHERE id = $1);

-- name: InsertStripeEvent :execrows
INSERT INTO stripe_events (id, type, account_id, handled_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING;

