package httpapi

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/plans"
)

// defaultHold is the contract's default of ttlSeconds.
const defaultHold = 300 * time.Second

func (s *server) ReserveCredits(
	ctx context.Context, r api.ReserveCreditsRequestObject,
) (api.ReserveCreditsResponseObject, error) {
	params := credits.Hold{
		EventID: r.Body.EventID, AccountID: deref(r.Body.AccountID), KeyID: deref(r.Body.KeyID),
		Category: plans.Category(r.Body.Category), Credits: r.Body.Credits, TTL: defaultHold,
	}
	if r.Body.TTLSeconds != nil {
		params.TTL = time.Duration(*r.Body.TTLSeconds) * time.Second
	}
	once := request(ctx, "reserveCredits", r.Params.IdempotencyKey, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.ReserveCredits200JSONResponse, error) {
		found, err := s.Credits.Reserve(ctx, params)
		return api.ReserveCredits200JSONResponse{ReservationFoundJSONResponse: toReservation(found)}, err
	})
}

func (s *server) SettleReservation(
	ctx context.Context, r api.SettleReservationRequestObject,
) (api.SettleReservationResponseObject, error) {
	cost := credits.Cost{
		Credits: r.Body.Credits, Provider: deref(r.Body.Provider), Quantity: r.Body.Quantity,
		Output: r.Body.OutputQuantity, BYOK: deref(r.Body.Byok),
	}
	once := request(ctx, "settleReservation", r.Params.IdempotencyKey, r.ReservationID, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.SettleReservation200JSONResponse, error) {
		found, err := s.Credits.Settle(ctx, r.ReservationID, cost)
		return api.SettleReservation200JSONResponse{ReservationFoundJSONResponse: toReservation(found)}, err
	})
}

func (s *server) ReleaseReservation(
	ctx context.Context, r api.ReleaseReservationRequestObject,
) (api.ReleaseReservationResponseObject, error) {
	once := request(ctx, "releaseReservation", r.Params.IdempotencyKey, r.ReservationID)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.ReleaseReservation200JSONResponse, error) {
		found, err := s.Credits.Release(ctx, r.ReservationID)
		return api.ReleaseReservation200JSONResponse{ReservationFoundJSONResponse: toReservation(found)}, err
	})
}

func (s *server) ReverseUsage(ctx context.Context, r api.ReverseUsageRequestObject) (api.ReverseUsageResponseObject, error) {
	once := request(ctx, "reverseUsage", r.Params.IdempotencyKey, r.EventID, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.ReverseUsage200JSONResponse, error) {
		reversal, err := s.Credits.Reverse(ctx, r.Body.AccountID, r.EventID)
		return api.ReverseUsage200JSONResponse{
			ID: reversal.ID, Reverses: reversal.Reverses, Credits: reversal.Credits, Duplicate: reversal.Duplicate,
		}, err
	})
}

func toReservation(r credits.Reservation) api.ReservationFoundJSONResponse {
	found := api.ReservationFoundJSONResponse{
		ID: r.ID, EventID: r.EventID, AccountID: r.AccountID, Category: api.Category(r.Category),
		State: api.ReservationState(r.State), Held: r.Held, Credits: r.Credits, Uncollected: r.Uncollected,
		ExpiresAt: second(r.ExpiresAt),
	}
	if r.KeyID != "" {
		found.KeyID = &r.KeyID
	}
	return found
}
