-- +goose Up

-- Ids and other text that is compared or sorted use the "C" collation, so that an order never depends on the
-- locale that a cluster was made with.

-- For the constraint that an account's billing periods never overlap.
CREATE EXTENSION IF NOT EXISTS btree_gist;

-- Written by internal/accounts.
CREATE TABLE accounts (
    id           text COLLATE "C" PRIMARY KEY,
    external_id  text COLLATE "C" UNIQUE,
    name         text NOT NULL,
    email        text,
    tier         text NOT NULL,
    suspended_at timestamptz,
    created_at   timestamptz NOT NULL
);

-- Written by internal/keys. A key is never deleted: a revoked one still holds its place in lists that are being walked.
CREATE TABLE api_keys (
    id             text COLLATE "C" PRIMARY KEY,
    account_id     text COLLATE "C" NOT NULL REFERENCES accounts,
    hash           bytea NOT NULL UNIQUE,
    pepper_version integer NOT NULL,
    prefix         text NOT NULL,
    name           text NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz,
    last_used_at   timestamptz,
    revoked_at     timestamptz,
    rotated_to     text COLLATE "C" UNIQUE REFERENCES api_keys,
    CONSTRAINT rotated_keys_are_revoked CHECK (rotated_to IS NULL OR revoked_at IS NOT NULL)
);
CREATE INDEX api_keys_of_account ON api_keys (account_id, id DESC) WHERE revoked_at IS NULL;

-- Written by internal/credits. A row for each billing period that an account entered, and its running sums; the row
-- that a spend updates. What it says is the fold of credit_grants and usage_events.
CREATE TABLE balances (
    account_id     text COLLATE "C" NOT NULL REFERENCES accounts,
    period         integer NOT NULL,
    -- What the period follows: 'own' or a Stripe subscription's id.
    source         text COLLATE "C" NOT NULL,
    -- Periods are whole months counted from the anchor; months is how many lie between it and this period's start.
    anchor         timestamptz NOT NULL,
    months         integer NOT NULL CHECK (months >= 0),
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    tier           text NOT NULL,
    capped         boolean NOT NULL,
    granted        bigint NOT NULL CHECK (granted >= 0),
    -- What the plans of this period include. granted is less where an earlier period used some of it.
    included       bigint NOT NULL CHECK (included >= 0),
    tts            bigint NOT NULL DEFAULT 0 CHECK (tts >= 0),
    stt            bigint NOT NULL DEFAULT 0 CHECK (stt >= 0),
    llm            bigint NOT NULL DEFAULT 0 CHECK (llm >= 0),
    rag            bigint NOT NULL DEFAULT 0 CHECK (rag >= 0),
    used           bigint NOT NULL GENERATED ALWAYS AS (tts + stt + llm + rag) STORED,
    requests       bigint NOT NULL DEFAULT 0 CHECK (requests >= 0),
    PRIMARY KEY (account_id, period),
    CONSTRAINT periods_have_a_length CHECK (starts_at < ends_at),
    CONSTRAINT periods_do_not_overlap
        EXCLUDE USING gist (account_id WITH =, tstzrange(starts_at, ends_at) WITH &&),
    -- Guarantee G3, whatever the code does.
    CONSTRAINT hard_cap CHECK (NOT capped OR tts + stt + llm + rag <= granted)
) WITH (fillfactor = 50);

-- Written by internal/credits. Append-only. source names what caused the grant, so that it is given once.
CREATE TABLE credit_grants (
    id         text COLLATE "C" PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    period     integer NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('monthly', 'adjustment')),
    amount     bigint NOT NULL CHECK (amount <> 0),
    source     text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (account_id, source),
    FOREIGN KEY (account_id, period) REFERENCES balances
);

-- Written by internal/credits. Append-only.
CREATE TABLE usage_events (
    account_id      text COLLATE "C" NOT NULL,
    id              text COLLATE "C" NOT NULL,
    period          integer NOT NULL,
    key_id          text COLLATE "C" REFERENCES api_keys,
    category        text NOT NULL CHECK (category IN ('tts', 'stt', 'llm', 'rag')),
    provider        text,
    quantity        bigint,
    output_quantity bigint,
    byok            boolean NOT NULL,
    credits         bigint NOT NULL CHECK (credits >= 0),
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    -- Of what the caller sent, to tell a retry from another event with the same id.
    fingerprint     bytea NOT NULL,
    PRIMARY KEY (account_id, id),
    CONSTRAINT own_key_is_free CHECK (NOT byok OR credits = 0),
    FOREIGN KEY (account_id, period) REFERENCES balances
);

-- Written by internal/billing. What we know of an account at Stripe.
CREATE TABLE billing_accounts (
    account_id          text COLLATE "C" PRIMARY KEY REFERENCES accounts,
    customer_id         text COLLATE "C" UNIQUE,
    subscription_id     text COLLATE "C" UNIQUE,
    subscription_status text,
    current_period_end  timestamptz,
    -- Rises with each write of the subscription: a reading of Stripe that began before the last write is read again.
    version             bigint NOT NULL DEFAULT 0,
    -- A checkout is being made until then. One at a time.
    busy_until          timestamptz,
    CONSTRAINT subscriptions_are_whole CHECK (
        (subscription_id IS NULL) = (subscription_status IS NULL)
        AND (subscription_id IS NULL) = (current_period_end IS NULL)
        AND (subscription_id IS NULL OR customer_id IS NOT NULL))
);

-- Written by internal/billing. Each Stripe event is handled once.
CREATE TABLE stripe_events (
    id         text COLLATE "C" PRIMARY KEY,
    type       text NOT NULL,
    account_id text COLLATE "C" REFERENCES accounts,
    handled_at timestamptz NOT NULL
);

-- Written by internal/idempotency. key_hash is keyed and answer is sealed, see docs/decisions.
CREATE TABLE idempotency_keys (
    scope       text COLLATE "C" NOT NULL,
    key_hash    bytea NOT NULL,
    fingerprint bytea NOT NULL,
    answer      bytea,
    busy_until  timestamptz,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, key_hash)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys, stripe_events, billing_accounts, usage_events, credit_grants, balances, api_keys, accounts;
