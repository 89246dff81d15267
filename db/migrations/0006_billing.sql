-- +goose Up

-- The inbox of Stripe's events, written by internal/billing. An event is there from when it was received, and is a job
-- until handled_at is set. next_attempt_at is also the claim of whoever is at it.
ALTER TABLE stripe_events
    ALTER COLUMN handled_at DROP NOT NULL,
    ADD COLUMN customer_id text COLLATE "C", -- of old events it was not kept
    ADD COLUMN received_at timestamptz,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at timestamptz,
    ADD COLUMN last_error text;
UPDATE stripe_events SET received_at = handled_at, next_attempt_at = handled_at;
ALTER TABLE stripe_events
    ALTER COLUMN received_at SET NOT NULL,
    ALTER COLUMN next_attempt_at SET NOT NULL,
    ADD CONSTRAINT open_events_have_a_customer CHECK (handled_at IS NOT NULL OR customer_id IS NOT NULL);
CREATE INDEX stripe_events_open ON stripe_events (next_attempt_at) WHERE handled_at IS NULL;
CREATE INDEX stripe_events_open_by_customer ON stripe_events (customer_id, received_at, id) WHERE handled_at IS NULL;

-- past_due_since: when the subscription was first seen past_due. check_at: when Stripe is to be read although no event
-- says so.
ALTER TABLE billing_accounts
    ADD COLUMN past_due_since timestamptz,
    ADD COLUMN check_at timestamptz;
UPDATE billing_accounts SET check_at = now() WHERE subscription_id IS NOT NULL;
CREATE INDEX billing_accounts_by_check ON billing_accounts (check_at) WHERE check_at IS NOT NULL;

-- Subscriptions beside the one that an account has, written by internal/billing. A row is there before the first attempt
-- to cancel one, so that its refund is made whatever happens.
CREATE TABLE duplicate_subscriptions (
    subscription_id text COLLATE "C" PRIMARY KEY,
    account_id      text COLLATE "C" NOT NULL REFERENCES accounts,
    kept_id         text COLLATE "C" NOT NULL,
    found_at        timestamptz NOT NULL,
    cancelled_at    timestamptz
);
CREATE INDEX duplicate_subscriptions_by_account ON duplicate_subscriptions (account_id);

-- What becomes of each overage in the ledger, written by internal/billing. The amount is rounded once, when the row is
-- made.
--   pending:  to be put onto an invoice
--   billed:   it is on one, or waits for the next one (item_id and no invoice_id), or is less than half a cent (neither)
--   parked:   Stripe has refused it for good; an operator may have it tried again
--   unbilled: of a period that no subscription paid for
CREATE TABLE overage_bills (
    overage_id      text COLLATE "C" PRIMARY KEY,
    account_id      text COLLATE "C" NOT NULL REFERENCES accounts,
    customer_id     text COLLATE "C",
    subscription_id text COLLATE "C",
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz NOT NULL,
    credits         bigint NOT NULL CHECK (credits > 0),
    unit_micros     bigint NOT NULL,
    amount_cents    bigint NOT NULL CHECK (amount_cents >= 0),
    state           text NOT NULL CHECK (state IN ('pending', 'billed', 'parked', 'unbilled')),
    invoice_id      text COLLATE "C",
    item_id         text COLLATE "C",
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    last_error      text
);
CREATE INDEX overage_bills_pending ON overage_bills (next_attempt_at) WHERE state = 'pending';
CREATE INDEX overage_bills_by_account ON overage_bills (account_id);
CREATE INDEX overage_bills_parked ON overage_bills (overage_id) WHERE state = 'parked';

-- Top-ups that were paid, written by internal/billing. reclaimed is how many of the credits were asked back so far,
-- whether or not they were still there.
CREATE TABLE top_ups (
    session_id   text COLLATE "C" PRIMARY KEY,
    account_id   text COLLATE "C" NOT NULL REFERENCES accounts,
    credits      bigint NOT NULL CHECK (credits > 0),
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    reclaimed    bigint NOT NULL DEFAULT 0 CHECK (reclaimed BETWEEN 0 AND credits),
    granted_at   timestamptz NOT NULL
);
CREATE INDEX top_ups_by_account ON top_ups (account_id);

-- How far the reconciliation with Stripe has come, and who is at it. One row. Written by internal/billing.
CREATE TABLE reconciliation (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    events_until timestamptz NOT NULL,
    busy_until   timestamptz
);

-- +goose Down
DROP TABLE reconciliation, top_ups, overage_bills, duplicate_subscriptions;
DROP INDEX billing_accounts_by_check;
ALTER TABLE billing_accounts DROP COLUMN past_due_since, DROP COLUMN check_at;
DELETE FROM stripe_events WHERE handled_at IS NULL;
DROP INDEX stripe_events_open, stripe_events_open_by_customer;
ALTER TABLE stripe_events
    DROP CONSTRAINT open_events_have_a_customer,
    DROP COLUMN customer_id,
    DROP COLUMN received_at,
    DROP COLUMN attempts,
    DROP COLUMN next_attempt_at,
    DROP COLUMN last_error,
    ALTER COLUMN handled_at SET NOT NULL;
