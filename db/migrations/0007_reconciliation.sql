-- +goose Up

-- For what the reconciliation looks for every minute: overage that has no bill yet, and events to be forgotten.
CREATE INDEX overages_by_creation ON overages (created_at);
CREATE INDEX stripe_events_handled ON stripe_events (handled_at) WHERE handled_at IS NOT NULL;

-- Of overage whose invoice was voided: somebody at Stripe has waived it, or collection was paused. An operator may have it
-- billed anew.
ALTER TABLE overage_bills
    DROP CONSTRAINT overage_bills_state_check,
    ADD CONSTRAINT overage_bills_state_check CHECK (state IN ('pending', 'billed', 'parked', 'voided', 'unbilled'));

-- How often reclaimed has changed.
ALTER TABLE top_ups ADD COLUMN changes integer NOT NULL DEFAULT 0;

-- +goose Down
UPDATE overage_bills SET state = 'billed' WHERE state = 'voided';
ALTER TABLE overage_bills
    DROP CONSTRAINT overage_bills_state_check,
    ADD CONSTRAINT overage_bills_state_check CHECK (state IN ('pending', 'billed', 'parked', 'unbilled'));
ALTER TABLE top_ups DROP COLUMN changes;
DROP INDEX overages_by_creation, stripe_events_handled;
