package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
)

// usagePoints returns up to so many points of the hours that begin in [from, to).
func usagePoints(
	ctx context.Context, db queries.DBTX, accountID string, q TimeseriesQuery, from, to time.Time, limit int,
) ([]Point, error) {
	rows, err := queries.New(db).UsagePoints(ctx, queries.UsagePointsParams{
		AccountID: accountID, Bucket: string(q.Bucket), ByKey: q.ByKey, ByCategory: q.ByCategory, FromHour: from, Until: to,
		KeyID: optional(q.KeyID), Category: optional(string(q.Category)), MaxRows: int32(limit),
	})
	if err != nil {
		return nil, err
	}
	points := make([]Point, len(rows))
	for i, row := range rows {
		points[i] = Point{
			Start: row.Start.UTC(), KeyID: row.Key, Category: plans.Category(row.CategoryName), Credits: row.Credits,
			Requests: row.Requests,
		}
	}
	return points, nil
}

// listEvents returns up to so many of the events that come after a place in the list.
func listEvents(
	ctx context.Context, db queries.DBTX, accountID string, q EventsQuery, before place, limit int,
) ([]RecordedEvent, error) {
	params := queries.ListUsageEventsParams{
		AccountID: accountID, Before: before.recordedAt, BeforeID: before.id, FromTime: q.From, Until: q.To,
		KeyID: optional(q.KeyID), Category: optional(string(q.Category)), MaxRows: int32(limit),
	}
	if q.From != nil {
		// An event is recorded after it happened, or little before: what was recorded earlier need not be looked at.
		params.RecordedFrom = q.From.Add(-leeway)
	}
	rows, err := queries.New(db).ListUsageEvents(ctx, params)
	if err != nil {
		return nil, err
	}
	events := make([]RecordedEvent, len(rows))
	for i, row := range rows {
		events[i] = RecordedEvent{
			ID: row.ID, KeyID: orElse(row.KeyID, ""), Category: plans.Category(row.Category), Provider: orElse(row.Provider, ""),
			Quantity: row.Quantity, Output: row.OutputQuantity, BYOK: row.Byok, Late: row.Late, Credits: row.Credits,
			Reverses: orElse(row.Reverses, ""), OccurredAt: row.OccurredAt.UTC(), RecordedAt: row.RecordedAt.UTC(),
		}
	}
	return events, nil
}
