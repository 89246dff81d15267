-- +goose Up

-- Per-key controls. NULL is no limit. family is the id of the first key of a chain of rotations: its keys share
-- limits, so that an overlap does not double them.
ALTER TABLE api_keys
    ADD COLUMN family          text COLLATE "C",
    ADD COLUMN enabled         boolean NOT NULL DEFAULT true,
    ADD COLUMN scopes          text[],
    ADD COLUMN credit_limit    bigint CHECK (credit_limit >= 0),
    ADD COLUMN rate_requests   integer CHECK (rate_requests > 0),
    ADD COLUMN rate_seconds    integer CHECK (rate_seconds > 0),
    ADD COLUMN allowed_ips     text[],
    ADD COLUMN metadata        jsonb,
    ADD CONSTRAINT rate_limits_are_whole CHECK ((rate_requests IS NULL) = (rate_seconds IS NULL));
UPDATE api_keys SET family = id;
ALTER TABLE api_keys ALTER COLUMN family SET NOT NULL;
ALTER TABLE api_keys DROP CONSTRAINT rotated_keys_are_revoked;
ALTER TABLE api_keys ADD CONSTRAINT rotated_keys_end CHECK (rotated_to IS NULL OR revoked_at IS NOT NULL OR expires_at IS NOT NULL);

ALTER TABLE accounts
    ADD COLUMN rate_requests integer CHECK (rate_requests > 0),
    ADD COLUMN rate_seconds  integer CHECK (rate_seconds > 0),
    ADD CONSTRAINT account_rate_limits_are_whole CHECK ((rate_requests IS NULL) = (rate_seconds IS NULL));

-- Leases, see docs/decisions. The one row of invalidations counts the changes that take rights away; who changes
-- rights holds it until commit, so that the order of its numbers is the order of commits.
CREATE TABLE invalidations (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    seq       bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO invalidations (seq) VALUES (0);

-- The servers that may answer from memory, and how far each has applied the invalidations.
CREATE TABLE replicas (
    id    text COLLATE "C" PRIMARY KEY,
    acked bigint NOT NULL
) WITH (fillfactor = 50);

-- Credits that are held for work that has not ended count as spent.
ALTER TABLE balances
    ADD COLUMN held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    DROP CONSTRAINT hard_cap,
    ADD CONSTRAINT hard_cap CHECK (NOT capped OR tts + stt + llm + rag + held <= granted);

-- What the keys of a family used of their own limit in a period. Written by internal/credits.
CREATE TABLE key_budgets (
    account_id   text COLLATE "C" NOT NULL,
    family       text COLLATE "C" NOT NULL,
    period       integer NOT NULL,
    used         bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    held         bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    -- The limit by which the last change was decided, or what was used and held before it if that was more already.
    credit_limit bigint,
    PRIMARY KEY (account_id, family, period),
    -- Guarantee G3 for keys, whatever the code does.
    CONSTRAINT key_limit CHECK (credit_limit IS NULL OR used + held <= credit_limit)
) WITH (fillfactor = 50);

CREATE TABLE reservations (
    id           text COLLATE "C" PRIMARY KEY,
    account_id   text COLLATE "C" NOT NULL REFERENCES accounts,
    event_id     text COLLATE "C" NOT NULL,
    period       integer NOT NULL,
    key_id       text COLLATE "C",
    family       text COLLATE "C",
    category     text NOT NULL CHECK (category IN ('tts', 'stt', 'llm', 'rag')),
    held         bigint NOT NULL CHECK (held > 0),
    state        text NOT NULL CHECK (state IN ('held', 'settled', 'released', 'expired')),
    credits      bigint CHECK (credits >= 0),     -- charged, once settled
    uncollected  bigint CHECK (uncollected >= 0), -- beyond what the plan allowed, once settled
    fingerprint  bytea NOT NULL,                  -- of the request that made it
    settlement   bytea,                           -- fingerprint of the request that settled it
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    UNIQUE (account_id, event_id),
    CONSTRAINT settled_reservations_are_whole CHECK
        ((state = 'settled') = (credits IS NOT NULL AND uncollected IS NOT NULL AND settlement IS NOT NULL))
);
CREATE INDEX reservations_that_hold ON reservations (account_id, expires_at) WHERE state = 'held';
CREATE INDEX reservations_that_expire ON reservations (expires_at) WHERE state = 'held';

-- A correction is an event of its own, of negative credits.
ALTER TABLE usage_events
    ADD COLUMN late        boolean NOT NULL DEFAULT false,
    ADD COLUMN reverses    text COLLATE "C",
    ADD COLUMN uncollected bigint NOT NULL DEFAULT 0 CHECK (uncollected >= 0),
    DROP CONSTRAINT usage_events_credits_check,
    DROP CONSTRAINT usage_events_key_id_fkey,
    DROP CONSTRAINT usage_events_account_id_period_fkey,
    ADD CONSTRAINT only_reversals_are_negative CHECK (credits >= 0 OR reverses IS NOT NULL);
CREATE UNIQUE INDEX usage_events_reversed_once ON usage_events (account_id, reverses) WHERE reverses IS NOT NULL;
-- Ascending, as events come in: then insertion finds its place at the end, and lists are read backwards.
CREATE INDEX usage_events_by_time ON usage_events (account_id, recorded_at, id);

-- What dashboards read. Written in the transaction of the events. key_id is '' for events without a key.
CREATE TABLE usage_totals (
    account_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    key_id     text COLLATE "C" NOT NULL,
    category   text NOT NULL,
    credits    bigint NOT NULL,
    requests   bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (account_id, hour, key_id, category)
) WITH (fillfactor = 50);

-- Rate limits: what servers have taken of a window's requests. Lost in a crash, which is in the caller's favour.
CREATE UNLOGGED TABLE rate_windows (
    subject   text COLLATE "C" NOT NULL, -- an account's id or a family of keys
    starts_at timestamptz NOT NULL,
    taken     bigint NOT NULL,
    PRIMARY KEY (subject, starts_at)
) WITH (fillfactor = 50);
CREATE INDEX rate_windows_by_age ON rate_windows (starts_at);

-- +goose Down
DROP TABLE rate_windows, usage_totals, reservations, key_budgets, replicas, invalidations;
DROP INDEX usage_events_by_time, usage_events_reversed_once;
ALTER TABLE usage_events DROP COLUMN late, DROP COLUMN reverses, DROP COLUMN uncollected;
ALTER TABLE balances DROP CONSTRAINT hard_cap;
ALTER TABLE balances DROP COLUMN held, ADD CONSTRAINT hard_cap CHECK (NOT capped OR tts + stt + llm + rag <= granted);
ALTER TABLE accounts DROP COLUMN rate_requests, DROP COLUMN rate_seconds;
ALTER TABLE api_keys DROP COLUMN family, DROP COLUMN enabled, DROP COLUMN scopes, DROP COLUMN credit_limit,
    DROP COLUMN rate_requests, DROP COLUMN rate_seconds, DROP COLUMN allowed_ips, DROP COLUMN metadata,
    DROP CONSTRAINT rotated_keys_end;
