-- +goose Up

-- What a batch of events costs Postgres is for the most part not its rows but what each statement prepares: every CHECK
-- is parsed again, every generated column too. So there are few of them, and no less is checked.

-- The index of this constraint must not be one that a look-up by account could use: it costs three times as much.
ALTER TABLE balances
    DROP COLUMN used,
    DROP CONSTRAINT periods_do_not_overlap,
    ADD CONSTRAINT periods_do_not_overlap
        EXCLUDE USING gist ((account_id || '') WITH =, tstzrange(starts_at, ends_at) WITH &&),
    DROP CONSTRAINT balances_months_check,
    DROP CONSTRAINT balances_granted_check,
    DROP CONSTRAINT balances_included_check,
    DROP CONSTRAINT balances_tts_check,
    DROP CONSTRAINT balances_stt_check,
    DROP CONSTRAINT balances_llm_check,
    DROP CONSTRAINT balances_rag_check,
    DROP CONSTRAINT balances_requests_check,
    DROP CONSTRAINT balances_held_check,
    DROP CONSTRAINT periods_have_a_length, -- an empty range would not be excluded
    ADD CONSTRAINT nothing_is_negative
        CHECK (least(months, granted, included, tts, stt, llm, rag, requests, held) >= 0 AND starts_at < ends_at);

-- closed: another period has begun. An account has one period that is not; its row is all that a spend has to lock.
-- reserves: the account has made reservations, in this period or an earlier one, and an event's id may be of one.
ALTER TABLE balances
    ADD COLUMN closed   boolean NOT NULL DEFAULT false,
    ADD COLUMN reserves boolean NOT NULL DEFAULT false;
UPDATE balances b SET
    closed = EXISTS (SELECT FROM balances l WHERE l.account_id = b.account_id AND l.period > b.period),
    reserves = EXISTS (SELECT FROM reservations r WHERE r.account_id = b.account_id);
CREATE UNIQUE INDEX balances_open ON balances (account_id) WHERE NOT closed;

ALTER TABLE usage_events
    DROP CONSTRAINT usage_events_category_check,
    DROP CONSTRAINT usage_events_uncollected_check,
    DROP CONSTRAINT own_key_is_free,
    DROP CONSTRAINT only_reversals_are_negative,
    ADD CONSTRAINT events_make_sense CHECK (
        category IN ('tts', 'stt', 'llm', 'rag') AND uncollected >= 0
        AND (NOT byok OR credits = 0) AND (credits >= 0 OR reverses IS NOT NULL));

-- Most keys were not rotated: they need no entry.
ALTER TABLE api_keys SET (fillfactor = 85); -- room for last_used_at
ALTER TABLE api_keys DROP CONSTRAINT api_keys_rotated_to_key;
CREATE UNIQUE INDEX api_keys_rotated_to ON api_keys (rotated_to) WHERE rotated_to IS NOT NULL;

-- +goose Down
DROP INDEX api_keys_rotated_to;
ALTER TABLE api_keys RESET (fillfactor);
ALTER TABLE api_keys ADD CONSTRAINT api_keys_rotated_to_key UNIQUE (rotated_to);
ALTER TABLE usage_events
    DROP CONSTRAINT events_make_sense,
    ADD CONSTRAINT usage_events_category_check CHECK (category IN ('tts', 'stt', 'llm', 'rag')),
    ADD CONSTRAINT usage_events_uncollected_check CHECK (uncollected >= 0),
    ADD CONSTRAINT own_key_is_free CHECK (NOT byok OR credits = 0),
    ADD CONSTRAINT only_reversals_are_negative CHECK (credits >= 0 OR reverses IS NOT NULL);
DROP INDEX balances_open;
ALTER TABLE balances
    DROP COLUMN closed,
    DROP COLUMN reserves,
    DROP CONSTRAINT nothing_is_negative,
    DROP CONSTRAINT periods_do_not_overlap,
    ADD CONSTRAINT periods_do_not_overlap
        EXCLUDE USING gist (account_id WITH =, tstzrange(starts_at, ends_at) WITH &&),
    ADD CONSTRAINT periods_have_a_length CHECK (starts_at < ends_at),
    ADD CONSTRAINT balances_months_check CHECK (months >= 0),
    ADD CONSTRAINT balances_granted_check CHECK (granted >= 0),
    ADD CONSTRAINT balances_included_check CHECK (included >= 0),
    ADD CONSTRAINT balances_tts_check CHECK (tts >= 0),
    ADD CONSTRAINT balances_stt_check CHECK (stt >= 0),
    ADD CONSTRAINT balances_llm_check CHECK (llm >= 0),
    ADD CONSTRAINT balances_rag_check CHECK (rag >= 0),
    ADD CONSTRAINT balances_requests_check CHECK (requests >= 0),
    ADD CONSTRAINT balances_held_check CHECK (held >= 0),
    ADD COLUMN used bigint NOT NULL GENERATED ALWAYS AS (tts + stt + llm + rag) STORED;
