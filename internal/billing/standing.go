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

const (
	rotation   = 6 * time.Hour    // each subscription is read this often, whatever events say
	checkAgain = 10 * time.Minute // one whose period has ended without a renewal, or that can't be read, is read this often
)

// started reports whether the subscription is under way: it is not over, and its first payment is not outstanding.
func (s Subscription) started() bool { return s.Status.Live() && s.Status != Incomplete }

// governing returns the subscription that decides: one whose plan is in force before one that is not, then the oldest.
// ok is false if there is none that is not over.
func governing(subscriptions []Subscription) (s Subscription, ok bool) {
	live := slices.DeleteFunc(slices.Clone(subscriptions), func(s Subscription) bool { return !s.Status.Live() })
	if len(live) == 0 {
		return Subscription{}, false
	}
	return slices.MinFunc(live, func(a, b Subscription) int {
		return cmp.Or(rank(a)-rank(b), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	}), true
}

func rank(s Subscription) int {
	switch {
	case s.Tier != "" && s.Status.entitles():
		return 0
	case s.Tier != "":
		return 1
	}
	return 2
}

// standing is what a subscription entitles to. docs/billing.md has the table.
func (b *Billing) standing(s Subscription, pastDueSince *time.Time, now time.Time) credits.Standing {
	if s.Tier == "" || s.Paused {
		return b.free()
	}
	paid := credits.Standing{
		Plan: b.Catalogue.Plan(s.Tier), Monthly: credits.Full, Overage: true,
		Cycle: &credits.Cycle{Source: s.ID, Anchor: s.Anchor, Start: s.PeriodStart}, Since: s.PlanSince,
	}
	switch s.Status {
	case Active:
		if s.Unpaid {
			paid.Monthly = credits.Bridge
		}
		return paid
	case Trialing:
		paid.Monthly, paid.Overage = credits.Trial, false
		return paid
	case PastDue:
		if pastDueSince != nil && now.Before(pastDueSince.Add(b.Catalogue.Grace())) {
			paid.Monthly, paid.Overage = credits.Frozen, false
			return paid
		}
		return b.free()
	default:
		return b.free()
	}
}

func (b *Billing) free() credits.Standing {
	return credits.Standing{Plan: b.Catalogue.Plan(plans.Free), Monthly: credits.Full}
}

// follow is what is kept of the subscription that decides.
func (b *Billing) follow(s Subscription, before boughtRow, now time.Time) followedRow {
	f := followedRow{subscription: &s, checkAt: now.Add(rotation)}
	f.checkAt = earlier(f.checkAt, upcoming(s.PeriodEnd, now))
	if s.Status != PastDue {
		return f
	}
	f.pastDueSince = &now
	if before.pastDueSince != nil && deref(before.subscriptionID) == s.ID {
		f.pastDueSince = before.pastDueSince
	}
	if end := f.pastDueSince.Add(b.Catalogue.Grace()); now.Before(end) {
		f.checkAt = earlier(f.checkAt, end)
	}
	return f
}

// upcoming is when to look for what happens at a time: then, and again and again if it has not happened.
func upcoming(at, now time.Time) time.Time {
	if now.Before(at) {
		return at.Add(time.Second) // Stripe's times are whole seconds
	}
	return now.Add(checkAgain)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (b *Billing) setStandingTx(
	ctx context.Context, tx postgres.Tx, accountID string, s credits.Standing,
) (invalidation int64, err error) {
	if err := b.Credits.ApplyTx(ctx, tx, accountID, s); err != nil {
		return 0, err
	}
	return b.Accounts.SetTierTx(ctx, tx, accountID, s.Plan.Tier)
}
