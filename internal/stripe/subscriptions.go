package stripe

import (
	"context"
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
	list := c.api.Subscriptions.List(&stripego.SubscriptionListParams{
		ListParams: stripego.ListParams{Context: ctx, Limit: stripego.Int64(100)},
		Customer:   stripego.String(customerID),
		Status:     stripego.String("all"),
	})
	var subscriptions []billing.Subscription
	for list.Next() {
		s, err := c.subscription(list.Subscription())
		if err != nil {
			return nil, err
		}
		subscriptions = append(subscriptions, s)
	}
	return subscriptions, failed("list subscriptions", list.Err())
}

func (c *Client) subscription(s *stripego.Subscription) (billing.Subscription, error) {
	if s.Items == nil || len(s.Items.Data) == 0 || s.Items.Data[0].Price == nil {
		return billing.Subscription{}, fmt.Errorf("subscription %s has no priced item", s.ID)
	}
	// An API version that moved the period to the items would read as 1970 here.
	if s.CurrentPeriodStart <= 0 || s.CurrentPeriodEnd <= s.CurrentPeriodStart {
		return billing.Subscription{}, fmt.Errorf("subscription %s has no period", s.ID)
	}
	item := s.Items.Data[0]
	return billing.Subscription{
		ID: s.ID, ItemID: item.ID, Status: billing.Status(s.Status), Tier: c.tier(item.Price),
		Created: at(s.Created), Anchor: at(s.BillingCycleAnchor),
		PeriodStart: at(s.CurrentPeriodStart), PeriodEnd: at(s.CurrentPeriodEnd),
		CancelAtPeriodEnd: s.CancelAtPeriodEnd,
	}, nil
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

func at(unix int64) time.Time { return time.Unix(unix, 0).UTC() }
