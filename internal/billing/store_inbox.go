package billing

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
)

// insertEvents returns how many of the events were not there yet.
func insertEvents(ctx context.Context, db queries.DBTX, events []Event, now time.Time) (added int64, err error) {
	params := queries.InsertStripeEventsParams{ReceivedAt: now}
	for _, e := range events {
		params.Ids, params.Types = append(params.Ids, e.ID), append(params.Types, e.Type)
		params.CustomerIds = append(params.CustomerIds, e.CustomerID)
	}
	return queries.New(db).InsertStripeEvents(ctx, params)
}

func claimEvents(ctx context.Context, db queries.DBTX, now, until time.Time) (c claim, found bool, err error) {
	rows, err := queries.New(db).ClaimStripeEvents(ctx, queries.ClaimStripeEventsParams{Now: now, Until: until})
	for _, row := range rows {
		c.customerID, c.attempts = deref(row.CustomerID), max(c.attempts, int(row.Attempts))
		c.ids, c.types = append(c.ids, row.ID), append(c.types, row.Type)
	}
	return c, len(rows) > 0, err
}

func eventsHandled(ctx context.Context, db queries.DBTX, ids []string, accountID string, now time.Time) error {
	params := queries.HandledStripeEventsParams{Ids: ids, Now: now}
	if accountID != "" {
		params.AccountID = &accountID
	}
	return queries.New(db).HandledStripeEvents(ctx, params)
}

func eventsFailed(ctx context.Context, db queries.DBTX, ids []string, reason string, next time.Time) error {
	return queries.New(db).FailedStripeEvents(ctx, queries.FailedStripeEventsParams{
		Ids: ids, LastError: reason, NextAttemptAt: next,
	})
}

func failingEvents(ctx context.Context, db queries.DBTX, limit int32) ([]FailingEvent, error) {
	rows, err := queries.New(db).ListFailingStripeEvents(ctx, limit)
	found := make([]FailingEvent, len(rows))
	for i, row := range rows {
		found[i] = FailingEvent{
			ID: row.ID, Type: row.Type, CustomerID: deref(row.CustomerID), ReceivedAt: row.ReceivedAt,
			NextAttemptAt: row.NextAttemptAt, Attempts: int(row.Attempts), LastError: deref(row.LastError),
		}
	}
	return found, err
}

// forgetEvents deletes events that were handled before a time.
func forgetEvents(ctx context.Context, db queries.DBTX, before time.Time, limit int32) error {
	_, err := queries.New(db).ForgetStripeEvents(ctx, queries.ForgetStripeEventsParams{Before: before, MaxRows: limit})
	return err
}
