-- +goose Up

-- For what the reconciliation looks for every minute: overage that has no bill yet, and events to be forgotten.
CREATE INDEX overages_by_creation ON overages (created_at);
CREATE INDEX stripe_events_handled ON stripe_events (handled_at) WHERE handled_at IS NOT NULL;

-- How often reclaimed has changed.
ALTER TABLE top_ups ADD COLUMN changes integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE top_ups DROP COLUMN changes;
DROP INDEX overages_by_creation, stripe_events_handled;
