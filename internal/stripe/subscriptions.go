package stripe

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// Subscriptions returns the customer's subscriptions in their current state, ended ones too.
func (c *Client) Subscriptions(ctx context.Context, customerID string) ([]billing.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := &stripego.SubscriptionListParams{
		ListParams: page(ctx), Customer: stripego.String(customerID), Status: stripego.String("all"),
	}
	params.AddExpand("data.latest_invoice")
	list := c.api.Subscriptions.List(params)
	var subscriptions []billing.Subscription
	var periods map[string]period // of the page that the list is at
	for list.Next() {
		id := list.Subscription().ID
		if _, ok := periods[id]; !ok {
			var err error
			if periods, err = readPeriods(list.SubscriptionList().LastResponse.RawJSON); err != nil {
				return nil, err
			}
		}
		s, err := c.subscription(list.Subscription(), periods[id])
		if err != nil {
			return nil, err
		}
		subscriptions = append(subscriptions, s)
	}
	if err := list.Err(); err != nil || len(subscriptions) == 0 {
		return subscriptions, failed("list subscriptions", err)
	}
	return subscriptions, c.markUnpaid(ctx, customerID, subscriptions)
}

func (c *Client) subscription(s *stripego.Subscription, p period) (billing.Subscription, error) {
	if s.Items == nil || len(s.Items.Data) == 0 || s.Items.Data[0].Price == nil {
		return billing.Subscription{}, fmt.Errorf("subscription %s has no priced item", s.ID)
	}
	if p.Start <= 0 || p.End <= p.Start {
		return billing.Subscription{}, fmt.Errorf("subscription %s has no period", s.ID)
	}
	item := s.Items.Data[0]
	return billing.Subscription{
		ID: s.ID, ItemID: item.ID, Status: billing.Status(s.Status), Tier: c.tier(item.Price),
		Created: at(s.Created), Anchor: at(s.BillingCycleAnchor), PeriodStart: at(p.Start), PeriodEnd: at(p.End),
		CancelAtPeriodEnd: s.CancelAtPeriodEnd, TrialEnd: at(s.TrialEnd), EndedAt: at(s.EndedAt),
		Paused: s.PauseCollection != nil, Scheduled: s.Schedule != nil, PlanSince: planSince(s.LatestInvoice),
	}, nil
}

// planSince returns when the plan was changed, if the latest invoice is for that.
func planSince(latest *stripego.Invoice) time.Time {
	if latest == nil || latest.BillingReason != stripego.InvoiceBillingReasonSubscriptionUpdate {
		return time.Time{}
	}
	return at(latest.Created)
}

// period is in seconds since 1970.
type period struct {
	Start int64 `json:"current_period_start"`
	End   int64 `json:"current_period_end"`
}

// readPeriods returns the current periods of a list of subscriptions, by their ids. Stripe has moved the period from the
// subscription to its items in 2025-03-31.basil; stripe-go v76 would read that as 1970.
func readPeriods(list []byte) (map[string]period, error) {
	var read struct {
		Data []struct {
			ID string `json:"id"`
			period
			Items struct {
				Data []period `json:"data"`
			} `json:"items"`
		} `json:"data"`
	}
	if err := json.Unmarshal(list, &read); err != nil {
		return nil, fmt.Errorf("read the periods of subscriptions: %w", err)
	}
	periods := map[string]period{}
	for _, s := range read.Data {
		periods[s.ID] = s.period
		if len(s.Items.Data) > 0 && s.Items.Data[0] != (period{}) {
			periods[s.ID] = s.Items.Data[0]
		}
	}
	return periods, nil
}

// markUnpaid finds out which subscriptions have an invoice that is not paid yet. Manual invoices pay for something else.
func (c *Client) markUnpaid(ctx context.Context, customerID string, subscriptions []billing.Subscription) error {
	unpaid := map[string]bool{}
	for _, status := range []stripego.InvoiceStatus{stripego.InvoiceStatusDraft, stripego.InvoiceStatusOpen} {
		list := c.api.Invoices.List(&stripego.InvoiceListParams{
			ListParams: page(ctx), Customer: stripego.String(customerID), Status: stripego.String(string(status)),
		})
		for list.Next() {
			invoice := list.Invoice()
			if invoice.Subscription != nil && invoice.BillingReason != stripego.InvoiceBillingReasonManual {
				unpaid[invoice.Subscription.ID] = true
			}
		}
		if err := list.Err(); err != nil {
			return failed("list unpaid invoices", err)
		}
	}
	for i := range subscriptions {
		subscriptions[i].Unpaid = unpaid[subscriptions[i].ID]
	}
	return nil
}

// tier returns the tier that a price sells, "" if it is none of ours.
func (c *Client) tier(price *stripego.Price) plans.Tier {
	if tier, ok := c.cfg.Catalogue.TierOf(price.LookupKey); ok {
		return tier
	}
	tier := plans.Tier(price.Metadata[tierMetadata])
	if c.cfg.Catalogue.Plan(tier).StripeLookupKey == "" {
		return ""
	}
	return tier
}

// at returns a time of Stripe's. 0 is for none.
func at(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}
