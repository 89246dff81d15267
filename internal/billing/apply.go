package billing

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

// reading is the state of a customer as the provider reports it when asked.
type reading struct {
	gone          bool // the customer was deleted
	subscriptions []Subscription
	topUps        []Payment
	voided        []string // overage
}

// read asks the provider. Of billed, which is overage, it finds out what is void; what is billed meanwhile may be anew.
func (b *Billing) read(ctx context.Context, customerID string, mayBeGone bool, billed []string) (r reading, err error) {
	if mayBeGone {
		// Only then: a key of another Stripe account finds no customer at all, and must not take everybody's plan.
		_, exists, err := b.Provider.Customer(ctx, customerID)
		if err != nil || !exists {
			return reading{gone: true}, err
		}
	}
	if r.subscriptions, err = b.Provider.Subscriptions(ctx, customerID); err != nil {
		return reading{}, err
	}
	if len(billed) > 0 {
		voided, err := b.Provider.VoidedItems(ctx, customerID)
		if err != nil {
			return reading{}, err
		}
		r.voided = slices.DeleteFunc(billed, func(id string) bool { return voided[overageKey+id] == "" })
	}
	r.topUps, err = b.Provider.TopUps(ctx, customerID)
	return r, err
}

// accountOf returns the account of a customer, "" if it is none of ours.
func (b *Billing) accountOf(ctx context.Context, customerID string) (string, error) {
	accountID, err := findByCustomer(ctx, b.Pool, customerID)
	if err != nil || accountID != "" {
		return accountID, err
	}
	// A process that died between creating the customer and noting it left the account's id at the provider.
	accountID, _, err = b.Provider.Customer(ctx, customerID)
	if err != nil || accountID == "" {
		return "", err
	}
	return adoptCustomer(ctx, b.Pool, accountID, customerID)
}

// project brings an account to the state that the provider reports when asked. In whatever order and however often it is
// called, the account ends in that state: a reading that began before another was written is taken again.
func (b *Billing) project(ctx context.Context, accountID, customerID string, mayBeGone bool) error {
	applied, invalidation := false, int64(0)
	for !applied {
		bought, err := getAccount(ctx, b.Pool, accountID)
		if err != nil {
			return err
		}
		billed, err := billedOverage(ctx, b.Pool, accountID)
		if err != nil {
			return err
		}
		r, err := b.read(ctx, customerID, mayBeGone, billed)
		if err != nil {
			return err
		}
		err = postgres.InTx(ctx, b.Pool, func(tx postgres.Tx) error {
			applied, invalidation, err = b.applyTx(ctx, tx, accountID, customerID, bought.version, r)
			return err
		})
		if err != nil {
			return err
		}
	}
	if invalidation != 0 {
		if err := b.Await(ctx, invalidation); err != nil {
			return err
		}
	}
	return b.cancelDuplicates(ctx, accountID)
}

// applyTx writes what follows from a reading, unless something was written since version was read.
func (b *Billing) applyTx(
	ctx context.Context, tx postgres.Tx, accountID, customerID string, version int64, r reading,
) (applied bool, invalidation int64, err error) {
	bought, err := lockAccount(ctx, tx, accountID)
	if err != nil || bought.version != version {
		return false, 0, err
	}
	if deref(bought.customerID) != customerID { // it was deleted meanwhile
		return true, 0, nil
	}
	invalidation, err = b.applySubscriptionsTx(ctx, tx, accountID, bought, r.subscriptions)
	if err != nil {
		return false, 0, err
	}
	if err := b.applyTopUpsTx(ctx, tx, accountID, r.topUps); err != nil {
		return false, 0, err
	}
	if err := b.recordOverageTx(ctx, tx, accountID, customerID); err != nil {
		return false, 0, err
	}
	if err := voidBills(ctx, tx, accountID, r.voided); err != nil {
		return false, 0, err
	}
	if err := reviveStranded(ctx, tx, accountID, ended(r.subscriptions), b.Now()); err != nil {
		return false, 0, err
	}
	if r.gone {
		err = clearCustomer(ctx, tx, accountID)
	}
	return true, invalidation, err
}

// endOf returns when a subscription ended, zero if that is not known.
func endOf(id string, subscriptions []Subscription) time.Time {
	for _, s := range subscriptions {
		if s.ID == id {
			return s.EndedAt
		}
	}
	return time.Time{}
}

func ended(subscriptions []Subscription) []string {
	ids := []string{}
	for _, s := range subscriptions {
		if !s.Status.Live() {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (b *Billing) applySubscriptionsTx(
	ctx context.Context, tx postgres.Tx, accountID string, bought boughtRow, subscriptions []Subscription,
) (invalidation int64, err error) {
	current, ok, err := b.chooseTx(ctx, tx, accountID, subscriptions)
	if err != nil {
		return 0, err
	}
	now := b.Now()
	if !ok && bought.subscriptionID == nil {
		return 0, checked(ctx, tx, accountID, now) // nothing was bought: a tier set by hand stays
	}
	followed := followedRow{}
	standing := b.free()
	standing.Since = endOf(deref(bought.subscriptionID), subscriptions)
	if ok {
		followed = b.follow(current, bought, now)
		standing = b.standing(current, followed.pastDueSince, now)
	}
	if err := setSubscription(ctx, tx, accountID, followed, now); err != nil {
		return 0, err
	}
	return b.setStandingTx(ctx, tx, accountID, standing)
}

// chooseTx returns the subscription that decides, and notes those beside it that are to be cancelled.
func (b *Billing) chooseTx(
	ctx context.Context, tx postgres.Tx, accountID string, subscriptions []Subscription,
) (current Subscription, ok bool, err error) {
	noted, err := duplicatesOf(ctx, tx, accountID)
	if err != nil {
		return Subscription{}, false, err
	}
	started := slices.DeleteFunc(slices.Clone(subscriptions), func(s Subscription) bool {
		return !s.started() || noted.has(s.ID)
	})
	current, ok = governing(started)
	if !ok || current.Tier == "" {
		return current, ok, nil
	}
	for _, s := range started {
		// One to a price that is none of ours may be another system's.
		if s.ID == current.ID || s.Tier == "" {
			continue
		}
		if err := insertDuplicate(ctx, tx, accountID, s.ID, current.ID, b.Now()); err != nil {
			return Subscription{}, false, err
		}
	}
	return current, true, nil
}

// cancelDuplicates ends the subscriptions that an account has beside the one that decides, and gives back what was paid
// for them: somebody has been sold the same thing twice.
func (b *Billing) cancelDuplicates(ctx context.Context, accountID string) error {
	noted, err := duplicatesOf(ctx, b.Pool, accountID)
	if err != nil {
		return err
	}
	for _, d := range noted {
		if d.cancelled {
			continue
		}
		err := b.Provider.CancelSubscription(ctx, Cancellation{SubscriptionID: d.subscriptionID, Refund: true, Key: d.subscriptionID})
		if err != nil {
			return err
		}
		if err := duplicateCancelled(ctx, b.Pool, d.subscriptionID, b.Now()); err != nil {
			return err
		}
		b.Logger.LogAttrs(ctx, slog.LevelError, "an account had a second subscription, which was cancelled and refunded",
			slog.String("account", accountID), slog.String("subscription", d.subscriptionID), slog.String("kept", d.keptID))
	}
	return nil
}
