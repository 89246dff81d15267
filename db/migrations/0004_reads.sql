-- +goose Up

-- What an account used by the hour over all of its keys: it may have more totals than can be added up while a dashboard
-- waits. Written by internal/credits, with usage_totals.
CREATE TABLE usage_hours (
    account_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    category   text NOT NULL,
    credits    bigint NOT NULL,
    requests   bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (account_id, hour, category)
) WITH (fillfactor = 50);

INSERT INTO usage_hours
SELECT account_id, hour, category, sum(credits), sum(requests) FROM usage_totals GROUP BY 1, 2, 3;

-- The few events that were recorded well after they happened. All others are found by when they happened in
-- usage_events_by_time, and cost this index nothing.
CREATE INDEX usage_events_belated ON usage_events (account_id, recorded_at)
    WHERE recorded_at - occurred_at > interval '10 minutes';

-- +goose Down
DROP INDEX usage_events_belated;
DROP TABLE usage_hours;
