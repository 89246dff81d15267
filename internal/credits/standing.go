package credits

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Monthly is how much of a period's monthly credits an account has a right to by now.
type Monthly int

const (
	// Frozen is none beyond those that were granted already: payment is overdue.
	Frozen Monthly = iota
	// Bridge is a small advance, for the time until the renewal is paid.
	Bridge
	// Trial is all of them, but none is carried over: nothing was paid.
	Trial
	// Full is all of them.
	Full
)

// Standing is what an account may do by what it has bought.
type Standing struct {
	Plan    plans.Plan
	Cycle   *Cycle // of the subscription that the plan comes from; nil for a plan without one
	Monthly Monthly
	Overage bool // usage beyond the credits is let through and billed, as far as the plan has it
	// Since is when the plan took effect, or the subscription before ended, for what is seen late; zero is now.
	Since time.Time
}

// ApplyTx puts the account's current period under a standing; the same again changes nothing. The caller writes the
// account's tier afterwards.
//
// A period of the cycle that has not been seen yet is opened. Within a period, more credits are there at once, what is
// used stays used, and a plan from a subscription never takes granted credits away; a plan set by hand does.
func (c *Credits) ApplyTx(ctx context.Context, tx postgres.Tx, accountID string, s Standing) error {
	now := c.now()
	if err := c.readyTx(ctx, tx, accountID, s.Cycle, now); err != nil {
		return err
	}
	// A spend may hold the row: what it spends belongs to this period, whichever way it ends.
	current, _, err := lockOpenBalance(ctx, tx, accountID)
	if err != nil {
		return err
	}
	if current, err = c.freeTx(ctx, tx, current, now); err != nil {
		return err
	}
	switch cycle := s.Cycle; {
	case cycle == nil && current.Cycle.Source != OwnSource:
		at := s.since(current, now)
		err = c.switchTx(ctx, tx, current, s, Cycle{Source: OwnSource, Anchor: at, Start: at}, at, now)
	case cycle != nil && (current.Cycle.Source != cycle.Source || current.Cycle.Start.Before(cycle.Start)):
		err = c.switchTx(ctx, tx, current, s, *cycle, cycle.Start, now)
	default:
		if cycle != nil && !cycle.end().After(current.Cycle.Start) {
			// It was read before this period began, and so does not tell whether that is paid for.
			s.Monthly = min(s.Monthly, Bridge)
		}
		if !now.Before(current.ValidUntil) {
			if current, err = c.refreshedTx(ctx, tx, current, now); err != nil {
				return err
			}
		}
		_, err = c.applyTx(ctx, tx, current, s, now)
	}
	return err
}

// readyTx sees to it that there is a period to change, and holds the account's row. Where the subscription that the
// last period follows says what the current one is, none is opened under the plan before it.
func (c *Credits) readyTx(ctx context.Context, tx postgres.Tx, accountID string, cycle *Cycle, now time.Time) error {
	if cycle != nil {
		if _, err := lockAccount(ctx, tx, accountID); err != nil {
			return err
		}
		b, ok, err := openBalance(ctx, tx, accountID)
		if err != nil || ok && b.Cycle.Source == cycle.Source {
			return err
		}
	}
	_, err := c.openTx(ctx, tx, accountID, now)
	return err
}

// switchTx ends the current period at a time and starts one that follows the cycle.
func (c *Credits) switchTx(
	ctx context.Context, tx postgres.Tx, current Balance, s Standing, cycle Cycle, at, now time.Time,
) error {
	months := monthsUntil(cycle.Anchor, cycle.Start)
	if !addMonths(cycle.Anchor, months).Equal(cycle.Start) {
		cycle.Anchor, months = cycle.Start, 0
	}
	// The two must not overlap, nor may the current one lose its beginning, whatever the clocks say.
	at = later(at, current.StartsAt.Add(time.Millisecond))
	if !addMonths(cycle.Anchor, months+1).After(at) {
		// It was read before the current period began, and so does not tell whether that is paid for.
		months, s.Monthly = monthsUntil(cycle.Anchor, at), min(s.Monthly, Bridge)
	}
	if at.Before(current.EndsAt) {
		if err := shortenPeriod(ctx, tx, current, at); err != nil {
			return err
		}
		current.EndsAt = at
	}
	_, err := c.nextTx(ctx, tx, current, s, cycle, months, at, now)
	return err
}

// applyTx puts a period under a standing.
func (c *Credits) applyTx(ctx context.Context, tx postgres.Tx, b Balance, s Standing, now time.Time) (Balance, error) {
	b, err := c.termsTx(ctx, tx, b, s, now)
	if err != nil {
		return Balance{}, err
	}
	switch s.Monthly {
	case Bridge:
		err = c.bridgeTx(ctx, tx, b, s.Plan, now)
	case Trial, Full:
		b, err = c.monthlyTx(ctx, tx, b, s, now)
	case Frozen:
	}
	if err == nil {
		b, err = c.changePlanTx(ctx, tx, b, s, now)
	}
	if err != nil {
		return Balance{}, err
	}
	b.Tier = s.Plan.Tier
	return c.refreshedTx(ctx, tx, b, now)
}

// termsTx sets how much overage there may be and at what price. What there is at another price, or where there may be none
// from now on, enters the ledger first.
func (c *Credits) termsTx(ctx context.Context, tx postgres.Tx, b Balance, s Standing, now time.Time) (Balance, error) {
	none := int64(0)
	limit, micros, billed := &none, s.Plan.OverageMicros, s.Overage && !s.Plan.Capped
	if billed {
		set, err := getSettings(ctx, tx, b.AccountID)
		if err != nil {
			return Balance{}, err
		}
		limit = set.overageLimit
	}
	// A limit that the account has set itself ends nothing: what is over goes on to be covered by what is granted later.
	over := b.Over() - b.Overage
	if over > 0 && (micros != b.OverageMicros || !billed) {
		if err := c.overageTx(ctx, tx, b, over, now, now); err != nil {
			return Balance{}, err
		}
		b.Overage += over
	}
	b.OverageLimit, b.OverageMicros, b.OverageOff = limit, micros, !s.Overage
	return b, nil
}

// monthlySource names the monthly grant of the month that a period is in.
func monthlySource(b Balance) string {
	if b.Cycle.Source == OwnSource {
		return fmt.Sprintf("monthly:%d", b.Period)
	}
	return fmt.Sprintf("monthly:%s:%d", b.Cycle.Source, b.Cycle.Start.Unix())
}

func bridgeSource(b Balance) string { return "bridge:" + monthlySource(b) }

// bridgeTx gives a small part of the monthly credits for the time until the renewal is paid.
func (c *Credits) bridgeTx(ctx context.Context, tx postgres.Tx, b Balance, plan plans.Plan, now time.Time) error {
	_, paid, err := findGrant(ctx, tx, b.AccountID, monthlySource(b))
	expiresAt := b.StartsAt.Add(c.catalogue.Bridge.For)
	if err != nil || paid || !expiresAt.After(now) {
		return err
	}
	_, err = c.giveTx(ctx, tx, b, Grant{
		Kind: BridgeGrant, Amount: plan.MonthlyCredits * c.catalogue.Bridge.Percent / 100, Source: bridgeSource(b),
		Reason: "Advance until the renewal is paid", ExpiresAt: &expiresAt,
	}, now)
	return err
}

// monthlyTx gives a period's monthly credits, once, less what was used of their advance. A period that includes them has
// had them, also where the advance has left nothing of them.
func (c *Credits) monthlyTx(ctx context.Context, tx postgres.Tx, b Balance, s Standing, now time.Time) (Balance, error) {
	if b.Included > 0 {
		return b, nil
	}
	if err := c.returnTx(ctx, tx, b, now); err != nil {
		return b, err
	}
	source := monthlySource(b)
	if _, given, err := findGrant(ctx, tx, b.AccountID, source); err != nil {
		return b, err
	} else if given {
		b.Included, err = includedOfMonth(ctx, tx, b)
		return b, err
	}
	b.Included = s.Plan.MonthlyCredits
	used, err := c.endBridgeTx(ctx, tx, b, now)
	if err != nil {
		return b, err
	}
	_, err = c.giveTx(ctx, tx, b, Grant{
		Kind: MonthlyGrant, Amount: s.Plan.MonthlyCredits - used, Source: source,
		Reason: s.Plan.Name + " plan, monthly credits", ExpiresAt: carriedUntil(b, s),
	}, now)
	return b, err
}

func leavingSource(subscription string) string { return "left:" + subscription }

// returnTx gives back what an account lost when it left the subscription, and has come back to, but for what has expired.
func (c *Credits) returnTx(ctx context.Context, tx postgres.Tx, b Balance, now time.Time) error {
	lost, err := leftOf(ctx, tx, b.AccountID, b.Cycle.Source)
	if err != nil {
		return err
	}
	for _, l := range lost {
		if l.expiresAt != nil && !l.expiresAt.After(now) {
			continue
		}
		_, err := c.giveTx(ctx, tx, b, Grant{
			Kind: MonthlyGrant, Amount: l.amount, Source: GivenBack(l.lossID), Reason: "Back to the subscription",
			ExpiresAt: l.expiresAt,
		}, now)
		if err != nil {
			return err
		}
	}
	return nil
}

// carriedUntil is when credits that a period's plan includes expire.
func carriedUntil(b Balance, s Standing) *time.Time {
	carried := s.Plan.CarryoverMonths
	if s.Monthly == Trial {
		carried = 0
	}
	at := addMonths(b.Cycle.Anchor, b.months+1+carried)
	return &at
}

// endBridgeTx ends the advance on a period's monthly credits, and returns what was used of it, also by an earlier period of
// the same month.
func (c *Credits) endBridgeTx(ctx context.Context, tx postgres.Tx, b Balance, now time.Time) (used int64, err error) {
	if used, err = burnedOf(ctx, tx, b.AccountID, bridgeSource(b)); err != nil {
		return 0, err
	}
	ls, err := openLots(ctx, tx, b.AccountID)
	if err != nil {
		return 0, err
	}
	burned, _ := ls.burns(b.spoken())
	for i, l := range ls {
		if l.source != bridgeSource(b) {
			continue
		}
		used += burned[i]
		isBridge := func(other lot) bool { return other.id == l.id }
		err = c.loseTx(ctx, tx, b, isBridge, l.available-burned[i], lostReplaced, monthlySource(b), now)
	}
	return used, err
}

// changePlanTx gives or takes what a change of plan within a period does. A plan from a subscription gives the part of the
// difference that is left of the period, once for each plan, and takes nothing.
func (c *Credits) changePlanTx(
	ctx context.Context, tx postgres.Tx, b Balance, s Standing, now time.Time,
) (Balance, error) {
	more := s.Plan.MonthlyCredits - b.Included
	byHand := s.Cycle == nil
	switch {
	case b.Included == 0 || more == 0: // the period's monthly credits are not paid for yet, or those of this plan
		return b, nil
	case more < 0 && byHand:
		b.Included = s.Plan.MonthlyCredits
		included := func(l lot) bool { return l.kind == MonthlyGrant && l.period == b.Period }
		return b, c.loseTx(ctx, tx, b, included, -more, lostPlanChange, c.ids.New("change"), now)
	case more < 0 || s.Monthly < Trial:
		return b, nil
	}
	b.Included = s.Plan.MonthlyCredits
	source := fmt.Sprintf("upgrade:%s:%s", monthlySource(b), s.Plan.Tier)
	if byHand {
		source = c.ids.New("change")
	} else {
		more = share(more, b.EndsAt.Sub(s.since(b, now)), b.EndsAt.Sub(b.Cycle.Start))
	}
	_, err := c.giveTx(ctx, tx, b, Grant{
		Kind: MonthlyGrant, Amount: more, Source: source, Reason: "Change to the " + s.Plan.Name + " plan",
		ExpiresAt: carriedUntil(b, s),
	}, now)
	return b, err
}

// since returns when the plan took effect in a period.
func (s Standing) since(b Balance, now time.Time) time.Time {
	if s.Since.IsZero() || s.Since.After(now) {
		return now
	}
	return later(s.Since, b.StartsAt)
}

// share returns the part of credits that left is of whole, rounded up.
func share(credits int64, left, whole time.Duration) int64 {
	n := new(big.Int).Mul(big.NewInt(credits), big.NewInt(int64(max(0, min(left, whole)))))
	n.Add(n, big.NewInt(int64(whole)-1))
	return n.Quo(n, big.NewInt(int64(whole))).Int64()
}
