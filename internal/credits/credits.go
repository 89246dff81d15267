// Package credits is what an account may spend and what it spent: billing periods, grants and usage events, and the
// balance that they add up to.
//
// A period is a row of balances. Whoever opens, closes or changes one holds the row of its account; whoever spends from
// one holds the row of the current period, and so has what else there is of the account's ledger to itself: its
// events, totals, reservations and the budgets of its keys. Locks are taken in that order, those of several accounts in
// the order of their ids.
package credits

import (
	"cmp"
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
	ValidUntil         time.Time // Granted holds until then: the end, or when a grant expires
	Tier               plans.Tier
	Granted            int64  // all that can be used in this period: what its grants leave for it
	Included           int64  // the monthly credits of the best plan in this period
	Overage            int64  // used beyond Granted and in the ledger as such, since the price has changed
	OverageLimit       *int64 // how much overage there may be in all; nil for any amount, 0 for a hard cap
	OverageMicros      int64  // micro-dollars for a credit of overage
	OverageOff         bool   // no more overage, whatever the plan has: payment is overdue
	TTS, STT, LLM, RAG int64  // used, by category
	Held               int64  // for reservations; counts as spent
	Requests           int64
	months             int
	reserves           bool   // the account has made reservations, ever
	alertAt            *int64 // use that makes the next alert due, nil for none
}

// Used returns the credits that were used.
func (b Balance) Used() int64 { return b.TTS + b.STT + b.LLM + b.RAG }

// Remaining returns the credits that are left before the cap or the overage, never below 0.
func (b Balance) Remaining() int64 { return max(0, b.Granted+b.Overage-b.Used()-b.Held) }

// Over returns the credits that were used beyond what was granted, also those that are in the ledger as overage already.
func (b Balance) Over() int64 { return b.Overage + max(0, b.Used()-b.Overage-b.Granted) }

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
	b, ok, err := openBalance(ctx, c.pool, accountID)
	if err != nil || ok && now.Before(b.ValidUntil) {
		return b, err
	}
	err = postgres.InTx(ctx, c.pool, func(tx postgres.Tx) (err error) {
		b, err = c.openTx(ctx, tx, accountID, now)
		return err
	})
	return b, err
}

// CurrentTx is Current within a transaction, which then holds the period's row and the account's.
func (c *Credits) CurrentTx(ctx context.Context, tx postgres.Tx, accountID string) (Balance, error) {
	return c.lockToChangeTx(ctx, tx, accountID, c.now())
}

// lockCurrentTx returns the current period and holds its row.
func (c *Credits) lockCurrentTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	for {
		b, ok, err := openBalance(ctx, tx, accountID)
		if err != nil {
			return Balance{}, err
		}
		if !ok || !now.Before(b.ValidUntil) {
			if _, err := c.openTx(ctx, tx, accountID, now); err != nil {
				return Balance{}, err
			}
		}
		b, ok, err = lockOpenBalance(ctx, tx, accountID)
		if err != nil || ok && now.Before(b.ValidUntil) {
			return b, err
		}
	}
}

// openTx returns the period that now lies in, with what is granted now, and holds its row and the account's. It opens the
// periods that nobody has yet, one after the other, so that credits are carried through each of them.
func (c *Credits) openTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	account, err := lockAccount(ctx, tx, accountID)
	if err != nil {
		return Balance{}, err
	}
	// Whoever still spends from the period that is over is waited for: what they record must be seen in the next one.
	b, ok, err := lockOpenBalance(ctx, tx, accountID)
	if err != nil {
		return Balance{}, err
	}
	if b, err = c.freeTx(ctx, tx, b, now); err != nil {
		return Balance{}, err
	}
	plan := c.catalogue.Plan(account.tier)
	if !ok {
		if b, err = c.firstTx(ctx, tx, account, accountID, plan, now); err != nil {
			return Balance{}, err
		}
	}
	for !now.Before(b.EndsAt) {
		// What periods before these granted has expired.
		months := max(b.months+1, monthsUntil(b.Cycle.Anchor, now)-plan.CarryoverMonths)
		if b, err = c.nextTx(ctx, tx, b, b.standing(plan), b.Cycle, months, b.EndsAt, now); err != nil {
			return Balance{}, err
		}
	}
	if now.Before(b.ValidUntil) {
		return b, nil
	}
	return c.refreshedTx(ctx, tx, b, now)
}

// freeTx frees what reservations hold that have run out: a grant that expires has not to cover it.
func (c *Credits) freeTx(ctx context.Context, tx postgres.Tx, b Balance, now time.Time) (Balance, error) {
	if b.Held == 0 {
		return b, nil
	}
	l := newLedger(now, b)
	if err := l.expire(ctx, tx, []string{b.AccountID}); err != nil {
		return Balance{}, err
	}
	return l.accounts[b.AccountID].balance, l.writeAll(ctx, tx)
}

// firstTx opens an account's first period.
func (c *Credits) firstTx(
	ctx context.Context, tx postgres.Tx, account accountRow, accountID string, plan plans.Plan, now time.Time,
) (Balance, error) {
	anchor := midnight(account.createdAt)
	none := Balance{AccountID: accountID, Period: -1}
	cycle := Cycle{Source: OwnSource, Anchor: anchor}
	return c.nextTx(ctx, tx, none, none.standing(plan), cycle, monthsUntil(anchor, now), anchor, now)
}

// standing is what an account may do in a period that traffic opens: whether a subscription has been paid for again is not
// known yet.
func (b Balance) standing(plan plans.Plan) Standing {
	s := Standing{Plan: plan, Monthly: Full, Overage: true}
	if b.Cycle.Source != OwnSource && b.Cycle.Source != "" {
		s.Monthly, s.Overage = Bridge, !b.OverageOff
	}
	return s
}

// nextTx closes a period and opens the one that begins so many months after the cycle's anchor, but not before the given
// time.
func (c *Credits) nextTx(
	ctx context.Context, tx postgres.Tx, before Balance, s Standing, cycle Cycle, months int, notBefore, now time.Time,
) (Balance, error) {
	cycle.Start = addMonths(cycle.Anchor, months)
	next := Balance{
		AccountID: before.AccountID, Period: before.Period + 1, Cycle: cycle, months: months,
		StartsAt: later(cycle.Start, notBefore), EndsAt: addMonths(cycle.Anchor, months+1), Tier: s.Plan.Tier,
		reserves: before.reserves,
	}
	next.ValidUntil = next.StartsAt // until it has been refreshed
	if !next.StartsAt.Before(next.EndsAt) {
		return Balance{}, fmt.Errorf("period of %s would end at %s before it starts", next.AccountID, next.EndsAt)
	}
	if before.Period >= 0 {
		leaves := before.Cycle.Source != OwnSource && before.Cycle.Source != cycle.Source
		if err := c.closeTx(ctx, tx, before, next.StartsAt, leaves, now); err != nil {
			return Balance{}, err
		}
	}
	if err := insertBalance(ctx, tx, next); err != nil {
		return Balance{}, err
	}
	if err := c.creditOverageTx(ctx, tx, before, next, now); err != nil {
		return Balance{}, err
	}
	return c.applyTx(ctx, tx, next, s, now)
}

// closeTx closes a period for good: what it used of each grant, what it used beyond them, and what expired with it enter
// the ledger. An account that leaves the subscription which the period follows leaves its monthly credits there.
func (c *Credits) closeTx(
	ctx context.Context, tx postgres.Tx, b Balance, nextStarts time.Time, leaves bool, now time.Time,
) error {
	ls, err := openLots(ctx, tx, b.AccountID)
	if err != nil {
		return err
	}
	burned, over := ls.burns(b.Used() - b.Overage)
	if err := insertBurns(ctx, tx, b, ls, burned, now); err != nil {
		return err
	}
	if err := c.overageTx(ctx, tx, b, over, b.EndsAt, now); err != nil {
		return err
	}
	ends := func(l lot) bool { return l.expired(nextStarts) || l.endsWith(b) }
	if _, err := c.endTx(ctx, tx, b, ls, burned, ends, loss{cause: lostByExpiry}, now); err != nil {
		return err
	}
	if leaves {
		remains := func(l lot) bool { return !ends(l) && (l.kind == MonthlyGrant || l.kind == BridgeGrant) }
		gone := loss{cause: lostByLeaving, source: leavingSource(b.Cycle.Source)}
		if _, err := c.endTx(ctx, tx, b, ls, burned, remains, gone, now); err != nil {
			return err
		}
	}
	return closePeriod(ctx, tx, b.AccountID)
}

// creditOverageTx gives back what was billed as overage and reversed later in the same period, when that has been closed.
// It lasts as an adjustment of the next period does.
func (c *Credits) creditOverageTx(ctx context.Context, tx postgres.Tx, closed, next Balance, now time.Time) error {
	_, err := c.giveTx(ctx, tx, next, Grant{
		Kind: Adjustment, Amount: closed.Overage - closed.Used(), Source: fmt.Sprintf("overage-reversed:%d", closed.Period),
		Reason:    "Reversal of events that were billed as overage",
		ExpiresAt: carriedUntil(next, Standing{Plan: c.catalogue.Plan(next.Tier), Monthly: Full}),
	}, now)
	return err
}

// endTx takes away what is unused of the lots that have ended, and returns how much that was. how says why.
func (c *Credits) endTx(
	ctx context.Context, tx postgres.Tx, b Balance, ls lots, burned []int64, ended func(l lot) bool, how loss, now time.Time,
) (lost int64, err error) {
	for i, l := range ls {
		unused := l.available - burned[i]
		if unused == 0 || !ended(l) {
			continue
		}
		err := insertLoss(ctx, tx, loss{
			id: c.ids.New("loss"), accountID: b.AccountID, grantID: l.id, period: b.Period, amount: unused,
			cause: how.cause, source: cmp.Or(how.source, c.ids.New("expiry")), at: now,
		})
		if err != nil {
			return 0, err
		}
		lost += unused
	}
	return lost, nil
}

// refreshedTx makes the period say what its grants leave for it now. What has expired since it last did is taken away,
// but for what was used or held by then: that part stays the period's, also if it is given back later.
func (c *Credits) refreshedTx(ctx context.Context, tx postgres.Tx, b Balance, now time.Time) (Balance, error) {
	ls, err := openLots(ctx, tx, b.AccountID)
	if err != nil {
		return Balance{}, err
	}
	burned, _ := ls.burns(b.spoken())
	ended := func(l lot) bool {
		paid := l.kind == BridgeGrant && b.Included > 0 // what it advanced was subtracted from the monthly credits
		return l.expired(now) && !l.settled(b.ValidUntil) && !paid
	}
	lost, err := c.endTx(ctx, tx, b, ls, burned, ended, loss{cause: lostByExpiry}, now)
	if err != nil {
		return Balance{}, err
	}
	b.Granted = ls.total() - lost
	b.ValidUntil = ls.nextExpiry(now, b.EndsAt)
	if b.OverageLimit != nil { // it is never less than what there is
		least := max(*b.OverageLimit, b.Overage, b.Used()+b.Held-b.Granted)
		b.OverageLimit = &least
	}
	if b.alertAt, err = c.alert(ctx, tx, b, now); err != nil {
		return Balance{}, err
	}
	return b, setTerms(ctx, tx, b)
}

func (c *Credits) refreshTx(ctx context.Context, tx postgres.Tx, b Balance, now time.Time) error {
	_, err := c.refreshedTx(ctx, tx, b, now)
	return err
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
