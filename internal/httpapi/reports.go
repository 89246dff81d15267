package httpapi

import (
	"cmp"
	"context"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/plans"
)

func (s *server) ListUsageEvents(
	ctx context.Context, r api.ListUsageEventsRequestObject,
) (api.ListUsageEventsResponseObject, error) {
	found, next, more, err := s.Credits.Events(ctx, principalOf(ctx).AccountID, credits.EventsQuery{
		From: r.Params.From, To: r.Params.To, KeyID: deref(r.Params.KeyID), Category: categoryOf(r.Params.Category),
		Limit: limitOf(r.Params.Limit), Cursor: deref(r.Params.Cursor),
	})
	if err != nil {
		return nil, err
	}
	data, nextCursor := page(found, more, toRecordedEvent, func(credits.RecordedEvent) string { return next })
	return api.ListUsageEvents200JSONResponse{Data: data, NextCursor: nextCursor, HasMore: more}, nil
}

func (s *server) GetUsageTimeseries(
	ctx context.Context, r api.GetUsageTimeseriesRequestObject,
) (api.GetUsageTimeseriesResponseObject, error) {
	groupBy := deref(r.Params.GroupBy)
	both := groupBy == api.UsageGroupingCategoryAndKey
	points, err := s.Credits.Timeseries(ctx, principalOf(ctx).AccountID, credits.TimeseriesQuery{
		From: r.Params.From, To: r.Params.To, KeyID: deref(r.Params.KeyID), Category: categoryOf(r.Params.Category),
		Bucket:     credits.Bucket(cmp.Or(deref(r.Params.Bucket), api.UsageBucketDay)),
		ByKey:      both || groupBy == api.UsageGroupingKey,
		ByCategory: both || groupBy == api.UsageGroupingCategory,
	})
	if err != nil {
		return nil, err
	}
	data, _ := page(points, false, toUsagePoint, nil)
	return api.GetUsageTimeseries200JSONResponse{Data: data}, nil
}

func toRecordedEvent(e credits.RecordedEvent) api.RecordedEvent {
	return api.RecordedEvent{
		ID: e.ID, KeyID: unlessZero(e.KeyID), Category: api.Category(e.Category), Provider: unlessZero(e.Provider),
		Quantity: e.Quantity, OutputQuantity: e.Output, Byok: e.BYOK, Credits: e.Credits, Late: e.Late,
		Reverses: unlessZero(e.Reverses), OccurredAt: second(e.OccurredAt), RecordedAt: second(e.RecordedAt),
	}
}

func toUsagePoint(p credits.Point) api.UsagePoint {
	return api.UsagePoint{
		Start: second(p.Start), KeyID: unlessZero(p.KeyID), Category: unlessZero(api.Category(p.Category)),
		Credits: p.Credits, Requests: p.Requests,
	}
}

func categoryOf(c *api.Category) plans.Category { return plans.Category(deref(c)) }

func unlessZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
