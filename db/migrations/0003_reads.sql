-- +goose Up

-- What an account used by the hour over all of its keys: it may have more totals than can be added up while a dashboard
-- waits. Written by the triggers below, so that whoever writes usage_totals can't forget it.
CREATE TABLE usage_hours (
    account_id text COLLATE "C" NOT NULL,
    hour       timestamptz NOT NULL,
    category   text NOT NULL,
    credits    bigint NOT NULL,
    requests   bigint NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (account_id, hour, category)
) WITH (fillfactor = 50);

-- +goose StatementBegin
CREATE FUNCTION add_to_usage_hours() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM added) THEN
        RETURN NULL; -- an upsert is both an INSERT and an UPDATE, often of no rows
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO usage_hours AS h
        SELECT account_id, hour, category, sum(credits), sum(requests) FROM added GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (account_id, hour, category)
        DO UPDATE SET credits = h.credits + excluded.credits, requests = h.requests + excluded.requests;
    ELSE
        UPDATE usage_hours AS h SET credits = h.credits + d.credits, requests = h.requests + d.requests
        FROM (
            SELECT account_id, hour, category, sum(credits) AS credits, sum(requests) AS requests FROM (
                SELECT account_id, hour, category, credits, requests FROM added
                UNION ALL SELECT account_id, hour, category, -credits, -requests FROM removed
            ) AS change
            GROUP BY 1, 2, 3
        ) AS d
        WHERE (h.account_id, h.hour, h.category) = (d.account_id, d.hour, d.category);
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER usage_totals_inserted AFTER INSERT ON usage_totals REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_to_usage_hours();
CREATE TRIGGER usage_totals_updated AFTER UPDATE ON usage_totals REFERENCING OLD TABLE AS removed NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_to_usage_hours();

INSERT INTO usage_hours
SELECT account_id, hour, category, sum(credits), sum(requests) FROM usage_totals GROUP BY 1, 2, 3;

-- The few events that were recorded well after they happened. All others are found by when they happened in
-- usage_events_by_time, and cost this index nothing.
CREATE INDEX usage_events_belated ON usage_events (account_id, recorded_at)
    WHERE recorded_at - occurred_at > interval '10 minutes';

-- +goose Down
DROP INDEX usage_events_belated;
DROP TRIGGER usage_totals_inserted ON usage_totals;
DROP TRIGGER usage_totals_updated ON usage_totals;
DROP FUNCTION add_to_usage_hours;
DROP TABLE usage_hours;
