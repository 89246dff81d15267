package stripe

import (
	"context"
	"fmt"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// CreateCheckout creates a Checkout session in subscription mode.
func (c *Client) CreateCheckout(ctx context.Context, p billing.Checkout) (billing.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	priceID, err := c.price(ctx, p.Plan)
	if err != nil {
		return billing.Session{}, err
	}
	session, err := c.api.CheckoutSessions.New(&stripego.CheckoutSessionParams{
		Params:            write(ctx, "keymeter:checkout:"+p.Key),
		Mode:              stripego.String(string(stripego.CheckoutSessionModeSubscription)),
		Customer:          stripego.String(p.CustomerID),
		ClientReferenceID: stripego.String(p.AccountID),
		Metadata:          map[string]string{accountMetadata: p.AccountID, requestMetadata: p.Key},
		SubscriptionData: &stripego.CheckoutSessionSubscriptionDataParams{
			Metadata: map[string]string{accountMetadata: p.AccountID},
		},
		LineItems: []*stripego.CheckoutSessionLineItemParams{
			{Price: stripego.String(priceID), Quantity: stripego.Int64(1)},
		},
		SuccessURL: stripego.String(p.SuccessURL),
		CancelURL:  stripego.String(p.CancelURL),
	})
	if err != nil {
		return billing.Session{}, failed("create the checkout session", err)
	}
	return billing.Session{ID: session.ID, URL: session.URL}, nil
}

// ExpireCheckouts expires the customer's open Checkout sessions of subscriptions, except the one that was created under
// key: a retry of its request gets it again.
func (c *Client) ExpireCheckouts(ctx context.Context, customerID, key string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	open := c.api.CheckoutSessions.List(&stripego.CheckoutSessionListParams{
		ListParams: page(ctx),
		Customer:   stripego.String(customerID),
		Status:     stripego.String(string(stripego.CheckoutSessionStatusOpen)),
	})
	for open.Next() {
		session := open.CheckoutSession()
		if _, topUp := session.Metadata[creditsMetadata]; topUp || session.Metadata[requestMetadata] == key {
			continue
		}
		id := session.ID
		_, err := c.api.CheckoutSessions.Expire(id, &stripego.CheckoutSessionExpireParams{
			Params: write(ctx, "keymeter:expire:"+id),
		})
		if err != nil {
			return failed("expire a checkout session", err)
		}
	}
	return failed("list checkout sessions", open.Err())
}

// price returns the id of the price at which Stripe sells a plan.
func (c *Client) price(ctx context.Context, plan plans.Plan) (string, error) {
	list := c.api.Prices.List(&stripego.PriceListParams{
		ListParams: stripego.ListParams{Context: ctx, Limit: stripego.Int64(1)},
		LookupKeys: []*string{stripego.String(plan.StripeLookupKey)},
		Active:     stripego.Bool(true),
	})
	if list.Next() {
		return list.Price().ID, nil
	}
	if err := list.Err(); err != nil {
		return "", failed("look up the price", err)
	}
	return "", billing.ErrNotConfigured.Because(
		fmt.Errorf("no active price at Stripe has the lookup key %q", plan.StripeLookupKey))
}
