package billing

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Event is a hint of the provider's that something about a customer changed. Nothing but its identity is taken from it.
type Event struct {
	ID, Type, CustomerID string
	Created              time.Time // whole seconds, which do not order events
}

// Handle handles an event once. In whatever order events come, the account ends in the state that the provider reports
// when asked: a reading that began before another was written is taken again.
func (b *Billing) Handle(ctx context.Context, e Event) error {
	if b.Provider == nil {
		return ErrNotConfigured
	}
	if handled, err := eventHandled(ctx, b.Pool, e.ID); err != nil || handled {
		return err
	}
	accountID, err := b.accountOf(ctx, e.CustomerID)
	if err != nil {
		return err
	}
	if accountID == "" { // a customer of another system on the same Stripe account
		return recordEvent(ctx, b.Pool, e, "", b.Now())
	}
	for {
		bought, err := getAccount(ctx, b.Pool, accountID)
		if err != nil {
			return err
		}
		subscriptions, err := b.Provider.Subscriptions(ctx, e.CustomerID)
		if err != nil {
			return err
		}
		applied, invalidation := false, int64(0)
		err = postgres.InTx(ctx, b.Pool, func(tx postgres.Tx) error {
			applied, invalidation, err = b.applyTx(ctx, tx, accountID, bought.version, subscriptions)
			if err != nil || !applied {
				return err
			}
			return recordEvent(ctx, tx, e, accountID, b.Now())
		})
		switch {
		case err != nil:
			return err
		case applied && invalidation != 0:
			return b.Await(ctx, invalidation)
		case applied:
			return nil
		}
	}
}

// accountOf returns the account of a customer, "" if it is none of ours.
func (b *Billing) accountOf(ctx context.Context, customerID string) (string, error) {
	accountID, err := findByCustomer(ctx, b.Pool, customerID)
	if err != nil || accountID != "" {
		return accountID, err
	}
	// A process that died between creating the customer and noting it left the account's id at the provider.
	accountID, err = b.Provider.CustomerAccount(ctx, customerID)
	if err != nil || accountID == "" {
		return "", err
	}
	return adoptCustomer(ctx, b.Pool, accountID, customerID)
}

// applyTx writes what follows from the subscriptions, unless something was written since version was read.
func (b *Billing) applyTx(
	ctx context.Context, tx postgres.Tx, accountID string, version int64, subscriptions []Subscription,
) (applied bool, invalidation int64, err error) {
	bought, err := lockAccount(ctx, tx, accountID)
	if err != nil || bought.version != version {
		return false, 0, err
	}
	current, ok := governing(subscriptions)
	if !ok && bought.subscriptionID == nil {
		return true, 0, nil // nothing was bought: a tier set by hand stays
	}
	if err := setSubscription(ctx, tx, accountID, current, ok); err != nil {
		return false, 0, err
	}
	tier, cycle := plans.Free, (*credits.Cycle)(nil)
	if ok && current.Status.entitles() && current.Tier != "" {
		tier = current.Tier
		cycle = &credits.Cycle{Source: current.ID, Anchor: current.Anchor, Start: current.PeriodStart}
	}
	invalidation, err = b.setPlanTx(ctx, tx, accountID, tier, cycle)
	return true, invalidation, err
}

// governing returns the live subscription that decides: one whose plan is in force before one that is not, then the
// oldest.
func governing(subscriptions []Subscription) (Subscription, bool) {
	live := slices.DeleteFunc(slices.Clone(subscriptions), func(s Subscription) bool { return !s.Status.Live() })
	if len(live) == 0 {
		return Subscription{}, false
	}
	return slices.MinFunc(live, func(a, b Subscription) int {
		if a.Status.entitles() != b.Status.entitles() {
			if a.Status.entitles() {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	}), true
}
