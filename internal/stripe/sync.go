package stripe

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"github.com/keymeter/keymeter/internal/plans"
)

// Sync is what it takes to bring Stripe's account in line with the plan catalogue. Warnings are what it can't mend.
type Sync struct {
	Changes  []Change
	Warnings []string

	sold []sold
}

// Change is a step of a sync, for operators to read.
type Change struct {
	Verb string // create, change or archive
	What string

	do func(ctx context.Context, a *applier) error
}

// String returns the change in a line.
func (c Change) String() string { return c.Verb + " " + c.What }

// desired is what should be there.
type desired struct {
	Offers     []offer
	WebhookURL string // "" leaves endpoints alone
}

// offer is a plan that is sold by the month.
type offer struct {
	Tier            plans.Tier
	Name, LookupKey string
	Cents           int64
}

// sold is an offer as it is at Stripe. PriceID is "" until the price is created.
type sold struct {
	offer
	ProductID, PriceID string
}

// PlanSync compares Stripe's account with the plan catalogue. It changes nothing.
func (c *Client) PlanSync(ctx context.Context, webhookURL string) (Sync, error) {
	offers, err := offersOf(c.cfg.Catalogue)
	if err != nil {
		return Sync{}, err
	}
	there, err := c.installed(ctx)
	if err != nil {
		return Sync{}, err
	}
	return planSync(there, desired{Offers: offers, WebhookURL: webhookURL}), nil
}

// Synced is what a sync has to tell. WebhookSecret is the signing secret of a webhook endpoint that was created, which
// Stripe tells once; "" if none was. Warnings are what Stripe refused and what was done in its place.
type Synced struct {
	WebhookSecret string
	Warnings      []string
}

// ApplySync makes the changes in their order and calls done after each. After an error, what was done stays; another sync
// does the rest.
//
// A sync reads before it writes, so that its writes need no idempotency keys: one that Stripe keeps for a day would answer
// with a thing that was deleted since.
func (c *Client) ApplySync(ctx context.Context, s Sync, done func(Change)) (Synced, error) {
	a := &applier{api: c.api, sold: s.sold}
	for _, change := range s.Changes {
		if err := a.apply(ctx, change); err != nil {
			return a.synced, err
		}
		done(change)
	}
	return a.synced, nil
}

func (a *applier) apply(ctx context.Context, change Change) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return failed(change.String(), change.do(ctx, a))
}

// offersOf returns the plans of the catalogue that Stripe sells.
func offersOf(catalogue *plans.Catalogue) ([]offer, error) {
	var offers []offer
	for _, tier := range []plans.Tier{plans.Free, plans.Starter, plans.Pro, plans.Scale} {
		plan := catalogue.Plan(tier)
		if plan.StripeLookupKey == "" {
			continue
		}
		amount, err := cents(plan.MonthlyPrice)
		if err != nil {
			return nil, fmt.Errorf("tier %q: %w", tier, err)
		}
		offers = append(offers, offer{Tier: tier, Name: plan.Name, LookupKey: plan.StripeLookupKey, Cents: amount})
	}
	return offers, nil
}

// cents reads dollars, which must be whole cents.
func cents(dollars string) (int64, error) {
	r, ok := new(big.Rat).SetString(dollars)
	if !ok {
		return 0, fmt.Errorf("monthlyPrice %q is not an amount of dollars", dollars)
	}
	r.Mul(r, big.NewRat(100, 1))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, errors.New("monthlyPrice is not a whole number of cents, which Stripe can't charge")
	}
	return r.Num().Int64(), nil
}

// dollars writes cents for people to read.
func dollars(amount int64) string { return fmt.Sprintf("$%d.%02d", amount/100, amount%100) }
