package stripe

import (
	"context"
	"slices"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
)

// Events calls fn with what happened since then, oldest first. Stripe lists the newest first, so all are read before the
// first call of fn.
func (c *Client) Events(ctx context.Context, since time.Time, fn func(billing.Event) error) error {
	hints, err := c.hintsSince(ctx, since)
	if err != nil {
		return err
	}
	for _, h := range slices.Backward(hints) {
		e, ok, err := c.event(ctx, h)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) hintsSince(ctx context.Context, since time.Time) ([]hint, error) {
	params := &stripego.EventListParams{
		CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		Types:        stripego.StringSlice(eventTypes),
	}
	var hints []hint
	for {
		more, err := c.eventPage(ctx, params, &hints)
		if err != nil || !more {
			return hints, err
		}
		params.StartingAfter = stripego.String(hints[len(hints)-1].ID)
	}
}

// eventPage adds a page of events. Each has a deadline of its own: there may be many.
func (c *Client) eventPage(ctx context.Context, params *stripego.EventListParams, hints *[]hint) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	after := params.StartingAfter
	params.ListParams = page(ctx)
	params.Single, params.StartingAfter = true, after
	list := c.api.Events.List(params)
	for list.Next() {
		e := list.Event()
		h := hint{ID: e.ID, Type: string(e.Type), Created: e.Created, Livemode: e.Livemode}
		if e.Data != nil {
			h.Object = readObject(e.Data.Raw)
		}
		*hints = append(*hints, h)
	}
	return list.Meta() != nil && list.Meta().HasMore, failed("list events", list.Err())
}

// event completes a hint. ok is false for one of no interest.
func (c *Client) event(ctx context.Context, h hint) (e billing.Event, ok bool, err error) {
	if h.ID == "" || !slices.Contains(eventTypes, h.Type) {
		return billing.Event{}, false, nil
	}
	customerID, err := c.customerOf(ctx, h.Object)
	if err != nil || customerID == "" {
		return billing.Event{}, false, err
	}
	return billing.Event{ID: h.ID, Type: h.Type, CustomerID: customerID, Created: at(h.Created)}, true, nil
}

// customerOf returns the customer of an event's object, "" if it has none. Disputes and refunds name the payment only.
func (c *Client) customerOf(ctx context.Context, o object) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var customer *stripego.Customer
	switch {
	case o.Object == "customer":
		return string(o.ID), nil
	case o.Customer != "":
		return string(o.Customer), nil
	case o.PaymentIntent != "":
		pi, err := c.api.PaymentIntents.Get(string(o.PaymentIntent), &stripego.PaymentIntentParams{Params: read(ctx)})
		if err != nil && !missing(err) {
			return "", failed("get the payment intent of an event", err)
		}
		if err == nil {
			customer = pi.Customer
		}
	case o.Charge != "":
		charge, err := c.api.Charges.Get(string(o.Charge), &stripego.ChargeParams{Params: read(ctx)})
		if err != nil && !missing(err) {
			return "", failed("get the charge of an event", err)
		}
		if err == nil {
			customer = charge.Customer
		}
	}
	if customer == nil {
		return "", nil
	}
	return customer.ID, nil
}
