package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// usagePoints returns the points of the hours that begin in [from, to): up to so many if keys are told apart, and then in
// no order.
func usagePoints(
	ctx context.Context, db queries.DBTX, accountID string, q TimeseriesQuery, from, to time.Time, limit int,
) ([]Point, error) {
	switch {
	case q.KeyID != "":
		return pointsOfKey(ctx, db, accountID, q, from, to)
	case q.ByKey:
		return pointsByKey(ctx, db, accountID, q, from, to, limit)
	}
	rows, err := queries.New(db).UsagePoints(ctx, queries.UsagePointsParams{
		AccountID: accountID, Bucket: string(q.Bucket), ByCategory: q.ByCategory, FromHour: from, Until: to,
		Category: optional(string(q.Category)),
	})
	points := make([]Point, len(rows))
	for i, row := range rows {
		points[i] = Point{
			Start: row.Start.UTC(), Category: plans.Category(row.CategoryName), Credits: row.Credits, Requests: row.Requests,
		}
	}
	return points, err
}

func pointsOfKey(
	ctx context.Context, db queries.DBTX, accountID string, q TimeseriesQuery, from, to time.Time,
) ([]Point, error) {
	rows, err := queries.New(db).UsagePointsOfKey(ctx, queries.UsagePointsOfKeyParams{
		AccountID: accountID, Bucket: string(q.Bucket), ByCategory: q.ByCategory, FromHour: from, Until: to, KeyID: q.KeyID,
		Category: optional(string(q.Category)),
	})
	keyID := ""
	if q.ByKey {
		keyID = q.KeyID
	}
	points := make([]Point, len(rows))
	for i, row := range rows {
		points[i] = Point{
			Start: row.Start.UTC(), KeyID: keyID, Category: plans.Category(row.CategoryName), Credits: row.Credits,
			Requests: row.Requests,
		}
	}
	return points, err
}

func pointsByKey(
	ctx context.Context, db queries.DBTX, accountID string, q TimeseriesQuery, from, to time.Time, limit int,
) ([]Point, error) {
	rows, err := queries.New(db).UsagePointsByKey(ctx, queries.UsagePointsByKeyParams{
		AccountID: accountID, Bucket: string(q.Bucket), ByCategory: q.ByCategory, FromHour: from, Until: to,
		Category: optional(string(q.Category)), MaxRows: int32(limit),
	})
	points := make([]Point, len(rows))
	for i, row := range rows {
		points[i] = Point{
			Start: row.Start.UTC(), KeyID: row.KeyID, Category: plans.Category(row.CategoryName), Credits: row.Credits,
			Requests: row.Requests,
		}
	}
	return points, err
}

// listEvents looks at a part of what comes after a place in the list. It returns up to so many of the events that match,
// and how far it looked, nil if there is nothing further.
func listEvents(
	ctx context.Context, db queries.DBTX, accountID string, q EventsQuery, after place, limit int,
) (events []RecordedEvent, reached *place, err error) {
	rows, err := queries.New(db).ListUsageEvents(ctx, queries.ListUsageEventsParams{
		AccountID: accountID, Before: after.recordedAt, BeforeID: after.id, RecordedFrom: q.recordedFrom(),
		FromTime: q.From, Until: q.To, KeyID: optional(q.KeyID), Category: optional(string(q.Category)),
		MaxLooks: maxEventLooks, MaxRows: int32(limit),
	})
	for _, row := range rows {
		if row.Matches {
			events = append(events, recordedEvent(row))
		}
		if row.IsLast {
			reached = &place{recordedAt: row.RecordedAt, id: row.ID}
		}
	}
	return events, reached, err
}

func recordedEvent(row queries.ListUsageEventsRow) RecordedEvent {
	return RecordedEvent{
		ID: row.ID, KeyID: orElse(row.KeyID, ""), Category: plans.Category(row.Category), Provider: orElse(row.Provider, ""),
		Quantity: row.Quantity, Output: row.OutputQuantity, BYOK: row.Byok, Late: row.Late, Credits: row.Credits,
		Reverses: orElse(row.Reverses, ""), OccurredAt: row.OccurredAt.UTC(), RecordedAt: row.RecordedAt.UTC(),
	}
}

// latestHour returns the latest hour, from the earliest to the latest, of which there are totals that match the query, or
// an hour after which there are none. The zero time is none at all.
func latestHour(
	ctx context.Context, db queries.DBTX, accountID string, q EventsQuery, earliest, latest time.Time,
) (time.Time, error) {
	hour, err := queries.New(db).LatestHour(ctx, queries.LatestHourParams{
		AccountID: accountID, Earliest: earliest, Latest: latest, KeyID: optional(q.KeyID),
		Category: optional(string(q.Category)), MaxLooks: maxHourLooks,
	})
	if postgres.NoRows(err) {
		return time.Time{}, nil
	}
	return hour, err
}

// latestBelated returns when the latest belated event that matches the query was recorded, at the time or before, or a
// time after which there are none. The zero time is none at all.
func latestBelated(ctx context.Context, db queries.DBTX, accountID string, q EventsQuery, latest time.Time) (time.Time, error) {
	at, err := queries.New(db).LatestBelated(ctx, queries.LatestBelatedParams{
		AccountID: accountID, Before: latest, RecordedFrom: q.recordedFrom(), FromTime: q.From, Until: q.To,
		KeyID: optional(q.KeyID), Category: optional(string(q.Category)), MaxLooks: maxBelatedLooks,
	})
	if postgres.NoRows(err) {
		return time.Time{}, nil
	}
	return at, err
}
