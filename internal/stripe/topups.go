package stripe

import (
	"context"
	"slices"
	"strconv"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// CreateTopUp creates a Checkout session in payment mode.
func (c *Client) CreateTopUp(ctx context.Context, p billing.TopUp) (billing.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	metadata := map[string]string{
		accountMetadata: p.AccountID, requestMetadata: p.Key, creditsMetadata: strconv.FormatInt(p.Credits, 10),
	}
	session, err := c.api.CheckoutSessions.New(&stripego.CheckoutSessionParams{
		Params:            write(ctx, "keymeter:top-up:"+p.Key),
		Mode:              stripego.String(string(stripego.CheckoutSessionModePayment)),
		Customer:          stripego.String(p.CustomerID),
		ClientReferenceID: stripego.String(p.AccountID),
		Metadata:          metadata,
		PaymentIntentData: &stripego.CheckoutSessionPaymentIntentDataParams{Metadata: metadata},
		LineItems: []*stripego.CheckoutSessionLineItemParams{{
			Quantity: stripego.Int64(1),
			PriceData: &stripego.CheckoutSessionLineItemPriceDataParams{
				Currency: stripego.String(currency), UnitAmount: stripego.Int64(p.AmountCents),
				ProductData: &stripego.CheckoutSessionLineItemPriceDataProductDataParams{Name: stripego.String(p.Name)},
			},
		}},
		SuccessURL: stripego.String(p.SuccessURL),
		CancelURL:  stripego.String(p.CancelURL),
	})
	if err != nil {
		return billing.Session{}, failed("create the checkout session", err)
	}
	return billing.Session{ID: session.ID, URL: session.URL}, nil
}

// TopUpPayment returns the payment of a top-up's Checkout session in its current state.
func (c *Client) TopUpPayment(ctx context.Context, sessionID string) (p billing.Payment, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := &stripego.CheckoutSessionParams{Params: read(ctx)}
	params.AddExpand("payment_intent.latest_charge")
	session, err := c.api.CheckoutSessions.Get(sessionID, params)
	if missing(err) {
		return billing.Payment{}, false, nil
	}
	if err != nil {
		return billing.Payment{}, false, failed("get the checkout session", err)
	}
	return c.payment(ctx, session)
}

// TopUpOfPaymentIntent returns the payment of the top-up that a payment intent belongs to.
func (c *Client) TopUpOfPaymentIntent(ctx context.Context, paymentIntentID string) (billing.Payment, bool, error) {
	found, err := c.payments(ctx, &stripego.CheckoutSessionListParams{PaymentIntent: stripego.String(paymentIntentID)})
	if err != nil || len(found) == 0 {
		return billing.Payment{}, false, err
	}
	return found[0], true, nil
}

// TopUps returns the customer's paid top-ups in their current state, newest first.
func (c *Client) TopUps(ctx context.Context, customerID string) ([]billing.Payment, error) {
	found, err := c.payments(ctx, &stripego.CheckoutSessionListParams{
		Customer: stripego.String(customerID), Status: stripego.String(string(stripego.CheckoutSessionStatusComplete)),
	})
	return slices.DeleteFunc(found, func(p billing.Payment) bool { return !p.Paid }), err
}

func (c *Client) payments(ctx context.Context, params *stripego.CheckoutSessionListParams) ([]billing.Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params.ListParams = page(ctx)
	params.AddExpand("data.payment_intent.latest_charge")
	var payments []billing.Payment
	list := c.api.CheckoutSessions.List(params)
	for list.Next() {
		p, ok, err := c.payment(ctx, list.CheckoutSession())
		if err != nil {
			return nil, err
		}
		if ok {
			payments = append(payments, p)
		}
	}
	return payments, failed("list checkout sessions", list.Err())
}

// payment reads a session whose payment intent and charge are expanded. ok is false for one that is no top-up.
func (c *Client) payment(ctx context.Context, s *stripego.CheckoutSession) (p billing.Payment, ok bool, err error) {
	credits, err := strconv.ParseInt(s.Metadata[creditsMetadata], 10, 64)
	if err != nil || s.Mode != stripego.CheckoutSessionModePayment || s.Customer == nil {
		return billing.Payment{}, false, nil //nolint:nilerr // a session of another system's
	}
	p = billing.Payment{
		SessionID: s.ID, AccountID: s.Metadata[accountMetadata], CustomerID: s.Customer.ID, Credits: credits,
		AmountCents: s.AmountTotal, Paid: s.PaymentStatus == stripego.CheckoutSessionPaymentStatusPaid, Created: at(s.Created),
	}
	if s.PaymentIntent == nil {
		return p, true, nil
	}
	p.PaymentIntentID = s.PaymentIntent.ID
	charge := s.PaymentIntent.LatestCharge
	if charge == nil {
		return p, true, nil
	}
	p.RefundedCents = charge.AmountRefunded
	if charge.Disputed { // and stays so when the dispute is won
		p.Disputed, err = c.lost(ctx, p.PaymentIntentID)
	}
	return p, err == nil, err
}

// lost reports whether the money of a payment was taken back by a dispute, or is withheld while one is open. An inquiry
// takes nothing yet.
func (c *Client) lost(ctx context.Context, paymentIntentID string) (bool, error) {
	list := c.api.Disputes.List(&stripego.DisputeListParams{
		ListParams: page(ctx), PaymentIntent: stripego.String(paymentIntentID),
	})
	for list.Next() {
		switch list.Dispute().Status {
		case stripego.DisputeStatusLost, stripego.DisputeStatusNeedsResponse, stripego.DisputeStatusUnderReview:
			return true, nil
		default:
		}
	}
	return false, failed("list disputes", list.Err())
}
