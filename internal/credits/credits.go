// Package credits is what an account may spend and what it spent: billing periods, grants and usage events, and the
// balance that they add up to.
//
// A period is a row of balances. Whoever opens, closes or changes one holds the row of its account; whoever spends from
// one holds the row of the current period, and so has what else there is of the account's ledger to itself: its
// events, totals, reservations and the budgets of its keys. Locks are taken in that order, those of several accounts in
// the order of their ids.
package credits

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Balance is the state of a billing period, in credits.
type Balance struct {
	AccountID          string
	Period             int32 // ordinal, rises
	Cycle              Cycle // Start is where the period begins by its cycle
	StartsAt, EndsAt   time.Time
	Tier               plans.Tier
	Capped             bool // Granted is a hard cap
	Granted            int64
	Included           int64 // what the plans of this period include; Granted may be less
	TTS, STT, LLM, RAG int64 // used, by category
	Held               int64 // for reservations; counts as spent
	Requests           int64
	months             int
	reserves           bool // the account has made reservations, ever
}

// Used returns the credits that were used.
func (b Balance) Used() int64 { return b.TTS + b.STT + b.LLM + b.RAG }

// Remaining returns the credits that are left before the cap or the overage, never below 0.
func (b Balance) Remaining() int64 { return max(0, b.Granted-b.Used()-b.Held) }

// Credits keeps the balances.
type Credits struct {
	pool, hot *postgres.Pool
	ids       *ids.Source
	now       func() time.Time
	catalogue *plans.Catalogue
	lanes     [workers]lane
	preparing sync.Mutex   // held by the worker that prepares a batch
	seed      maphash.Seed // of the choice of a lane
}

// New returns the credits in the database behind pool and hot. What is spent goes through hot.
func New(
	pool, hot *postgres.Pool, source *ids.Source, now func() time.Time, catalogue *plans.Catalogue,
) *Credits {
	c := &Credits{pool: pool, hot: hot, ids: source, now: now, catalogue: catalogue, seed: maphash.MakeSeed()}
	for i := range c.lanes {
		c.lanes[i].wake = make(chan struct{}, 1)
	}
	return c
}

var errNoAccount = fault.New(fault.NotFound, "account_not_found", "There is no such account.")

// Current returns the account's current billing period. It opens it if nobody has yet.
func (c *Credits) Current(ctx context.Context, accountID string) (Balance, error) {
	now := c.now()
	latest, ok, err := openBalance(ctx, c.pool, accountID)
	if err != nil || ok && now.Before(latest.EndsAt) {
		return latest, err
	}
	return c.open(ctx, accountID, now)
}

func (c *Credits) open(ctx context.Context, accountID string, now time.Time) (Balance, error) {
	var latest Balance
	err := postgres.InTx(ctx, c.pool, func(tx postgres.Tx) (err error) {
		latest, err = c.openTx(ctx, tx, accountID, now)
		return err
	})
	return latest, err
}

// lockCurrentTx returns the current period and holds its row.
func (c *Credits) lockCurrentTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	for {
		latest, ok, err := openBalance(ctx, tx, accountID)
		if err != nil {
			return Balance{}, err
		}
		if !ok || !now.Before(latest.EndsAt) {
			if _, err := c.openTx(ctx, tx, accountID, now); err != nil {
				return Balance{}, err
			}
		}
		locked, ok, err := lockOpenBalance(ctx, tx, accountID)
		if err != nil || ok && now.Before(locked.EndsAt) {
			return locked, err
		}
	}
}

// openTx returns the period that now lies in, and opens it if nobody has yet. It holds the account's row.
func (c *Credits) openTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	account, err := lockAccount(ctx, tx, accountID)
	if err != nil {
		return Balance{}, err
	}
	// Whoever still spends from the period that is over is waited for: what they record must be seen in the next one.
	latest, ok, err := lockOpenBalance(ctx, tx, accountID)
	switch {
	case err != nil:
		return Balance{}, err
	case !ok:
		anchor := midnight(account.createdAt)
		first := Balance{AccountID: accountID, Period: -1, Cycle: Cycle{Source: OwnSource, Anchor: anchor}}
		return c.startTx(ctx, tx, first, c.catalogue.Plan(account.tier), monthsUntil(anchor, now), anchor)
	case now.Before(latest.EndsAt):
		return latest, nil
	}
	months := max(latest.months+1, monthsUntil(latest.Cycle.Anchor, now))
	return c.startTx(ctx, tx, latest, c.catalogue.Plan(account.tier), months, latest.EndsAt)
}

// startTx opens the period that begins so many months after the cycle's anchor, and grants the plan's credits, less what
// an earlier period of the same month of a subscription used: it was paid for once. It does not begin before the given time, where the
// period before it ends.
func (c *Credits) startTx(
	ctx context.Context, tx postgres.Tx, before Balance, plan plans.Plan, months int, notBefore time.Time,
) (Balance, error) {
	cycle := before.Cycle
	cycle.Start = addMonths(cycle.Anchor, months)
	next := Balance{
		AccountID: before.AccountID, Period: before.Period + 1, Cycle: cycle, months: months,
		StartsAt: later(cycle.Start, notBefore), EndsAt: addMonths(cycle.Anchor, months+1),
		Tier: plan.Tier, Capped: plan.Capped, Included: plan.MonthlyCredits, reserves: before.reserves,
	}
	if !next.StartsAt.Before(next.EndsAt) {
		return Balance{}, fmt.Errorf("period of %s would end at %s before it starts", next.AccountID, next.EndsAt)
	}
	var used int64
	if cycle.Source != OwnSource {
		var err error
		if used, err = usedInMonth(ctx, tx, next); err != nil {
			return Balance{}, err
		}
	}
	next.Granted = max(0, plan.MonthlyCredits-used)
	if err := closePeriod(ctx, tx, next.AccountID); err != nil {
		return Balance{}, err
	}
	if err := insertBalance(ctx, tx, next); err != nil || next.Granted == 0 {
		return next, err
	}
	return next, c.grantTx(ctx, tx, next, "monthly", next.Granted, fmt.Sprintf("monthly:%d", next.Period))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (c *Credits) grantTx(
	ctx context.Context, tx postgres.Tx, b Balance, kind string, amount int64, source string,
) error {
	return insertGrant(ctx, tx, grantRow{
		id: c.ids.New("grant"), accountID: b.AccountID, period: b.Period, kind: kind, amount: amount, source: source,
		createdAt: c.now(),
	})
}

// ChangePlanTx puts the account's current period under another plan. The caller writes the account's tier afterwards.
//
// cycle is that of the Stripe subscription which the plan comes from, or nil for a plan without one. A period of the
// cycle that has not been seen yet is opened, with its grant. Within a period, more credits are there at once, what is
// used stays used, and a plan from Stripe never takes granted credits away; a plan set by hand does. Going back to a
// hard cap always starts a new period: what was used in overage can't stand under a cap.
func (c *Credits) ChangePlanTx(
	ctx context.Context, tx postgres.Tx, accountID string, plan plans.Plan, cycle *Cycle,
) error {
	now := c.now()
	if err := c.readyTx(ctx, tx, accountID, cycle, now); err != nil {
		return err
	}
	// A spend may hold the row: what it spends belongs to this period, whichever way it ends.
	current, _, err := lockOpenBalance(ctx, tx, accountID)
	if err != nil {
		return err
	}
	more := plan.MonthlyCredits - current.Included
	if cycle != nil {
		more = max(0, more)
	}
	capBroken := plan.Capped && (!current.Capped || current.Used()+current.Held > current.Granted+more)
	switch {
	case cycle == nil && (current.Cycle.Source != OwnSource || capBroken):
		return c.switchTx(ctx, tx, current, plan, Cycle{Source: OwnSource, Anchor: now, Start: now}, now)
	case cycle != nil && (current.Cycle.Source != cycle.Source || current.Cycle.Start.Before(cycle.Start)):
		return c.switchTx(ctx, tx, current, plan, *cycle, cycle.Start)
	case cycle != nil && capBroken:
		return c.switchTx(ctx, tx, current, plan, *cycle, now)
	}
	if more == 0 && current.Tier == plan.Tier {
		return nil
	}
	if err := changePeriod(ctx, tx, current, plan, more); err != nil || more == 0 {
		return err
	}
	return c.grantTx(ctx, tx, current, "adjustment", more, c.ids.New("change"))
}

// readyTx sees to it that there is a period to change, and holds the account's row. Where the subscription that the
// last period follows says what the current one is, none is opened under the plan before it.
func (c *Credits) readyTx(ctx context.Context, tx postgres.Tx, accountID string, cycle *Cycle, now time.Time) error {
	if cycle != nil {
		if _, err := lockAccount(ctx, tx, accountID); err != nil {
			return err
		}
		latest, ok, err := openBalance(ctx, tx, accountID)
		if err != nil || ok && latest.Cycle.Source == cycle.Source {
			return err
		}
	}
	_, err := c.openTx(ctx, tx, accountID, now)
	return err
}

// switchTx ends the current period at a time and starts one that follows the cycle.
func (c *Credits) switchTx(
	ctx context.Context, tx postgres.Tx, current Balance, plan plans.Plan, cycle Cycle, at time.Time,
) error {
	months := monthsUntil(cycle.Anchor, cycle.Start)
	if !addMonths(cycle.Anchor, months).Equal(cycle.Start) {
		cycle.Anchor, months = cycle.Start, 0
	}
	// The two must not overlap, nor may the current one lose its beginning, whatever the clocks say.
	at = later(at, current.StartsAt.Add(time.Millisecond))
	if at.Before(current.EndsAt) {
		if err := shortenPeriod(ctx, tx, current, at); err != nil {
			return err
		}
	}
	before := Balance{
		AccountID: current.AccountID, Period: current.Period, Cycle: cycle, reserves: current.reserves,
	}
	_, err := c.startTx(ctx, tx, before, plan, months, at)
	return err
}
