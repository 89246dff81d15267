package httpapi

import (
	"context"
	"fmt"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/plans"
)

func (s *server) GetSubscription(
	ctx context.Context, _ api.GetSubscriptionRequestObject,
) (api.GetSubscriptionResponseObject, error) {
	state, err := s.Billing.State(ctx, principalOf(ctx).AccountID)
	if err != nil {
		return nil, err
	}
	plan := state.Plan
	return api.GetSubscription200JSONResponse{
		Tier: api.Tier(plan.Tier), TierDisplay: plan.Display(), Credits: toCredits(state.Balance),
		Plan: api.Plan{
			MonthlyCredits: plan.MonthlyCredits, CarryoverMonths: int32(plan.CarryoverMonths),
			OverageRate: float64(plan.OverageMicros) / 1e6, // the contract prints a number
		},
		StripeCustomerID: state.CustomerID, TierExpiresAt: optionalSecond(state.ExpiresAt),
	}, nil
}

func (s *server) CreateCheckoutSession(
	ctx context.Context, r api.CreateCheckoutSessionRequestObject,
) (api.CreateCheckoutSessionResponseObject, error) {
	once := request(ctx, "createCheckoutSession", r.Params.IdempotencyKey, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.CreateCheckoutSession200JSONResponse, error) {
		session, err := s.Billing.Checkout(ctx, billing.CheckoutParams{
			AccountID: principalOf(ctx).AccountID, Tier: plans.Tier(r.Body.Tier),
			SuccessURL: r.Body.SuccessURL, CancelURL: r.Body.CancelURL, Key: s.providerKey(once),
		})
		return api.CreateCheckoutSession200JSONResponse{URL: session.URL, SessionID: session.ID}, err
	})
}

func (s *server) CreateTopUp(ctx context.Context, r api.CreateTopUpRequestObject) (api.CreateTopUpResponseObject, error) {
	once := request(ctx, "createTopUp", r.Params.IdempotencyKey, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.CreateTopUp200JSONResponse, error) {
		session, err := s.Billing.TopUp(ctx, billing.TopUpParams{
			AccountID: principalOf(ctx).AccountID, Credits: r.Body.Credits,
			SuccessURL: r.Body.SuccessURL, CancelURL: r.Body.CancelURL, Key: s.providerKey(once),
		})
		return api.CreateTopUp200JSONResponse{URL: session.URL, SessionID: session.ID}, err
	})
}

func (s *server) CreatePortalSession(
	ctx context.Context, r api.CreatePortalSessionRequestObject,
) (api.CreatePortalSessionResponseObject, error) {
	once := request(ctx, "createPortalSession", r.Params.IdempotencyKey, r.Body)
	return idempotency.Do(ctx, s.Idempotency, once, func() (api.CreatePortalSession200JSONResponse, error) {
		params := billing.PortalParams{AccountID: principalOf(ctx).AccountID, Key: s.providerKey(once)}
		if r.Body != nil {
			params.ReturnURL = r.Body.ReturnURL
		}
		session, err := s.Billing.Portal(ctx, params)
		return api.CreatePortalSession200JSONResponse{URL: session.URL}, err
	})
}

func (s *server) ReceiveStripeEvent(
	ctx context.Context, r api.ReceiveStripeEventRequestObject,
) (api.ReceiveStripeEventResponseObject, error) {
	if s.ReadStripeEvent == nil {
		return nil, billing.ErrNotConfigured
	}
	event, ok, err := s.ReadStripeEvent(ctx, rawBody(ctx), r.Params.StripeSignature)
	if err != nil {
		return nil, err
	}
	if ok {
		if _, err := s.Billing.Receive(ctx, event); err != nil {
			return nil, fmt.Errorf("event %s: %w", event.ID, err)
		}
	}
	return api.ReceiveStripeEvent200JSONResponse{Received: true}, nil
}
