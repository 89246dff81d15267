-- +goose Up

-- A grant has its final expiry from the start, so that carrying credits over is nothing that has to be done.
ALTER TABLE credit_grants
    DROP CONSTRAINT credit_grants_kind_check,
    DROP CONSTRAINT credit_grants_amount_check,
    ADD COLUMN reason     text NOT NULL DEFAULT '',
    ADD COLUMN expires_at timestamptz, -- NULL is never
    ADD CONSTRAINT grants_make_sense CHECK (
        kind IN ('monthly', 'bridge', 'topup', 'promotional', 'adjustment') AND amount > 0) NOT VALID;
UPDATE credit_grants g SET expires_at = b.ends_at FROM balances b WHERE (b.account_id, b.period) = (g.account_id, g.period);
CREATE INDEX credit_grants_of_account ON credit_grants (account_id, created_at, id);

-- Written by internal/credits. Append-only: what a period that is over used of a grant.
CREATE TABLE credit_burns (
    account_id text COLLATE "C" NOT NULL,
    grant_id   text COLLATE "C" NOT NULL REFERENCES credit_grants,
    period     integer NOT NULL,
    credits    bigint NOT NULL CHECK (credits > 0),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, grant_id, period),
    FOREIGN KEY (account_id, period) REFERENCES balances
);

-- Written by internal/credits. Append-only: credits of a grant that were taken away unused. source names what caused it.
CREATE TABLE credit_losses (
    id         text COLLATE "C" PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    grant_id   text COLLATE "C" NOT NULL REFERENCES credit_grants,
    period     integer NOT NULL,
    amount     bigint NOT NULL CHECK (amount >= 0),
    cause      text NOT NULL CHECK (cause IN ('expired', 'taken_back', 'replaced', 'plan_changed', 'left', 'adjusted')),
    source     text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (account_id, grant_id, source),
    FOREIGN KEY (account_id, period) REFERENCES balances
);

-- Written by internal/credits. Append-only: what was used beyond the grants, at the price that was in force.
CREATE TABLE overages (
    id           text COLLATE "C" PRIMARY KEY,
    account_id   text COLLATE "C" NOT NULL,
    period       integer NOT NULL,
    subscription text COLLATE "C" NOT NULL, -- that the period followed, or 'own'
    starts_at    timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    credits      bigint NOT NULL CHECK (credits > 0),
    unit_micros  bigint NOT NULL CHECK (unit_micros >= 0),
    created_at   timestamptz NOT NULL,
    FOREIGN KEY (account_id, period) REFERENCES balances
);
CREATE INDEX credit_losses_of_account ON credit_losses (account_id, created_at, id);
CREATE INDEX overages_of_account ON overages (account_id, created_at, id);

-- Written by internal/credits. What a customer has set.
CREATE TABLE credit_settings (
    account_id     text COLLATE "C" PRIMARY KEY REFERENCES accounts,
    overage_limit  bigint CHECK (overage_limit >= 0), -- credits a period; NULL is none
    alert_percents smallint[]                         -- NULL is the catalogue's
);

-- Written by internal/credits. Append-only: a threshold was passed, once in a period.
CREATE TABLE credit_alerts (
    account_id text COLLATE "C" NOT NULL,
    period     integer NOT NULL,
    percent    smallint NOT NULL,
    used       bigint NOT NULL,
    granted    bigint NOT NULL,
    raised_at  timestamptz NOT NULL,
    PRIMARY KEY (account_id, period, percent),
    FOREIGN KEY (account_id, period) REFERENCES balances
);

-- granted is what the grants leave for this period, and holds until valid_until: the period's end or when a grant expires.
-- overage is what was used beyond it at a price that is not in force any more, so that it is in overages already;
-- overage_limit is how much of it there may be in all, NULL for any amount.
ALTER TABLE balances
    ADD COLUMN valid_until    timestamptz,
    ADD COLUMN overage        bigint NOT NULL DEFAULT 0,
    ADD COLUMN overage_limit  bigint,
    ADD COLUMN overage_off    boolean NOT NULL DEFAULT false, -- whatever the plan: payment is overdue
    ADD COLUMN overage_micros bigint NOT NULL DEFAULT 0,
    ADD COLUMN alert_at       bigint; -- credits used, at which the next alert is due
UPDATE balances SET
    valid_until = ends_at, overage_limit = CASE WHEN capped THEN 0 END,
    overage_micros = CASE tier WHEN 'starter' THEN 1000 WHEN 'pro' THEN 800 WHEN 'scale' THEN 600 ELSE 0 END;
ALTER TABLE balances
    ALTER COLUMN valid_until SET NOT NULL,
    DROP CONSTRAINT hard_cap,
    DROP COLUMN capped,
    DROP CONSTRAINT nothing_is_negative,
    ADD CONSTRAINT nothing_is_negative CHECK (
        least(months, granted, included, tts, stt, llm, rag, requests, held, overage, overage_limit) >= 0
        AND starts_at < ends_at),
    -- Guarantee G3, whatever the code does.
    ADD CONSTRAINT hard_cap CHECK (overage_limit IS NULL OR tts + stt + llm + rag + held <= granted + overage_limit);

-- +goose Down
ALTER TABLE balances
    ADD COLUMN capped boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT hard_cap,
    DROP CONSTRAINT nothing_is_negative;
UPDATE balances SET capped = overage_limit IS NOT NULL AND tts + stt + llm + rag + held <= granted;
ALTER TABLE balances
    ADD CONSTRAINT hard_cap CHECK (NOT capped OR tts + stt + llm + rag + held <= granted),
    ADD CONSTRAINT nothing_is_negative
        CHECK (least(months, granted, included, tts, stt, llm, rag, requests, held) >= 0 AND starts_at < ends_at),
    DROP COLUMN valid_until, DROP COLUMN overage, DROP COLUMN overage_limit, DROP COLUMN overage_off, DROP COLUMN overage_micros, DROP COLUMN alert_at;
DROP TABLE credit_alerts, credit_settings, overages, credit_losses, credit_burns;
DROP INDEX credit_grants_of_account;
ALTER TABLE credit_grants
    DROP CONSTRAINT grants_make_sense,
    DROP COLUMN reason,
    DROP COLUMN expires_at;
