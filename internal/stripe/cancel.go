package stripe

import (
	"context"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// CancelSubscription ends a subscription at once. Proration would leave a credit at Stripe, for the next invoice; a refund
// is made by hand instead.
func (c *Client) CancelSubscription(ctx context.Context, p billing.Cancellation) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	get := &stripego.SubscriptionParams{Params: read(ctx)}
	get.AddExpand("latest_invoice.charge")
	s, err := c.api.Subscriptions.Get(p.SubscriptionID, get)
	if err != nil {
		return failed("get the subscription to cancel", err)
	}
	if billing.Status(s.Status).Live() {
		params := &stripego.SubscriptionCancelParams{
			Params: write(ctx, "keymeter:cancel:"+p.Key), InvoiceNow: stripego.Bool(false), Prorate: stripego.Bool(false),
		}
		params.AddExpand("latest_invoice.charge")
		ended, err := c.api.Subscriptions.Cancel(p.SubscriptionID, params)
		if missing(err) { // another server may have ended it just now: then Stripe finds none to cancel
			if s, getErr := c.api.Subscriptions.Get(p.SubscriptionID, get); getErr == nil && !billing.Status(s.Status).Live() {
				ended, err = s, nil
			}
		}
		if err != nil {
			return failed("cancel the subscription", err)
		}
		s = ended
	}
	if !p.Refund {
		return nil
	}
	return c.refundRest(ctx, s, p.Key)
}

// refundRest gives back what the latest invoice of an ended subscription paid for the time after its end.
func (c *Client) refundRest(ctx context.Context, s *stripego.Subscription, key string) error {
	invoice := s.LatestInvoice
	if invoice == nil || invoice.Status != stripego.InvoiceStatusPaid || invoice.Charge == nil {
		return nil
	}
	periods, err := readPeriods([]byte(`{"data":[` + string(s.LastResponse.RawJSON) + `]}`))
	if err != nil {
		return err
	}
	amount := min(rest(invoice.AmountPaid, periods[s.ID], s.EndedAt), invoice.Charge.Amount-invoice.Charge.AmountRefunded)
	done, err := c.refunded(ctx, invoice.Charge.ID, key)
	if err != nil || done || amount <= 0 {
		return err
	}
	_, err = c.api.Refunds.New(&stripego.RefundParams{
		Params: write(ctx, "keymeter:refund:"+key), Charge: stripego.String(invoice.Charge.ID),
		Amount: stripego.Int64(amount), Reason: stripego.String(string(stripego.RefundReasonDuplicate)),
		Metadata: map[string]string{keyMetadata: key, subscriptionMetadata: s.ID},
	})
	return failed("refund the rest of the period", err)
}

// refunded reports whether the refund under the key was made. Stripe knows an idempotency key for a day only.
func (c *Client) refunded(ctx context.Context, chargeID, key string) (bool, error) {
	list := c.api.Refunds.List(&stripego.RefundListParams{ListParams: page(ctx), Charge: stripego.String(chargeID)})
	for list.Next() {
		if list.Refund().Metadata[keyMetadata] == key {
			return true, nil
		}
	}
	return false, failed("list refunds", list.Err())
}

// rest returns the part of an amount, in cents, that is for the time of a period after its end came early. It is rounded
// half up.
func rest(amount int64, p period, ended int64) int64 {
	whole := p.End - p.Start
	left := min(p.End-ended, whole)
	if whole <= 0 || left <= 0 {
		return 0
	}
	return (2*amount*left + whole) / (2 * whole)
}
