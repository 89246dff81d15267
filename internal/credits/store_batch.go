package credits

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
)

// batch is the events of several callers, in the order in which they came.
type batch struct {
	drafts     []*draft
	accountIDs []string // sorted: that is the order of locks
	// The families of keys that have a limit.
	limitedAccounts, limited []string
	// careful is whether to look for stored events first. Most batches hold none, and the look-ups would be a third of
	// their cost. Without, a stored event is found by its insertion, which fails, or because another answer than
	// 'recorded' needs a look-up to be sure.
	careful bool
	needed  bool // to be careful, it turned out
	// prepared is called when all is done but to commit.
	prepared func()
}

func newBatch(submissions []*submission, careful bool) *batch {
	b := &batch{careful: careful}
	for _, s := range submissions {
		b.drafts = append(b.drafts, s.drafts...)
	}
	accounts := map[string]struct{}{}
	families := map[earlierKey]struct{}{}
	for _, d := range b.drafts {
		accounts[d.accountID] = struct{}{}
		if d.keyID != "" && d.limit != noLimit {
			families[earlierKey{accountID: d.accountID, family: d.family}] = struct{}{}
		}
	}
	b.accountIDs = slices.Sorted(maps.Keys(accounts))
	for f := range families {
		b.limitedAccounts, b.limited = append(b.limitedAccounts, f.accountID), append(b.limited, f.family)
	}
	return b
}

// sent are the accounts and ids of the drafts.
func (b *batch) sent() (accountIDs, ids []string) {
	accountIDs, ids = make([]string, len(b.drafts)), make([]string, len(b.drafts))
	for i, d := range b.drafts {
		accountIDs[i], ids[i] = d.accountID, d.id
	}
	return accountIDs, ids
}

// tryBatch records a batch in a transaction of three round trips: one locks and reads, one inserts the events, one
// writes the sums and commits. If accounts have no current period it returns them and does nothing.
func (c *Credits) tryBatch(ctx context.Context, b *batch) (stale []string, err error) {
	conn, err := c.hot.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // a connection that is still in a transaction is not used again
	r, err := lockBatch(ctx, conn, b, c.now())
	if err == nil && len(r.stale) == 0 {
		err = c.decideBatch(ctx, conn, b, r)
	}
	if err != nil || len(r.stale) > 0 {
		return r.stale, errors.Join(err, rollback(ctx, conn))
	}
	return nil, nil
}

// decideBatch decides about the events of a batch and commits.
func (c *Credits) decideBatch(ctx context.Context, conn dbConn, b *batch, r *reading) error {
	if err := r.more(ctx, conn, b); err != nil {
		return err
	}
	l := r.ledger()
	b.needed = !l.spendAll(b.drafts)
	if b.needed && !r.looked {
		b.careful = true
		if err := r.more(ctx, conn, b); err != nil {
			return err
		}
		l = r.ledger()
		l.spendAll(b.drafts)
	}
	if err := l.insertEvents(ctx, conn); err != nil {
		return err
	}
	if err := c.raise(ctx, conn, l); err != nil {
		return err
	}
	b.prepared()
	return pipelined(ctx, conn, "", "COMMIT", l.write(ctx))
}

// reading is what a transaction has read under the locks of its accounts.
type reading struct {
	now      time.Time
	balances []Balance // the current periods
	stale    []string  // accounts without one
	expired  []string  // accounts with reservations that have run out
	reserve  bool      // some have reservations
	looked   bool      // for the events
	freed    []freed
	budgets  []queries.LatestKeyBudgetsRow
	events   []queries.FindEventsRow
	reserved []queries.FindReservedEventsRow
}

// lockBatch locks the accounts' current periods, and reads budgets and, for a careful batch, the events that are stored.
func lockBatch(ctx context.Context, conn sender, b *batch, now time.Time) (*reading, error) {
	r := &reading{now: now}
	var balances []queries.LockOpenBalancesRow
	find := r.find(ctx, b)
	err := pipelined(ctx, conn, "BEGIN ISOLATION LEVEL READ COMMITTED", "", func(q *queries.Queries) (err error) {
		balances, err = q.LockOpenBalances(ctx, queries.LockOpenBalancesParams{AccountIds: b.accountIDs, Now: now})
		if err != nil {
			return err
		}
		if len(b.limited) > 0 {
			r.budgets, err = q.LatestKeyBudgets(ctx,
				queries.LatestKeyBudgetsParams{AccountIds: b.limitedAccounts, Families: b.limited})
		}
		if err != nil || !b.careful {
			return err
		}
		return find(q)
	})
	r.take(b.accountIDs, balances)
	return r, err
}

// find returns the queries that look for stored events.
func (r *reading) find(ctx context.Context, b *batch) func(q *queries.Queries) error {
	accountIDs, ids := b.sent()
	return func(q *queries.Queries) (err error) {
		r.looked = true
		r.events, err = q.FindEvents(ctx, queries.FindEventsParams{AccountIds: accountIDs, Ids: ids})
		if err != nil {
			return err
		}
		r.reserved, err = q.FindReservedEvents(ctx, queries.FindReservedEventsParams{AccountIds: accountIDs, Ids: ids})
		return err
	}
}

// take keeps the locked periods that are not over and whose grants have not expired.
func (r *reading) take(accountIDs []string, balances []queries.LockOpenBalancesRow) {
	held := make(map[string]struct{}, len(balances))
	for i := range balances {
		b := fromLocked(&balances[i])
		if !r.now.Before(b.ValidUntil) {
			continue
		}
		held[b.AccountID] = struct{}{}
		r.balances = append(r.balances, b)
		r.reserve = r.reserve || b.reserves
		if balances[i].Expired {
			r.expired = append(r.expired, b.AccountID)
		}
	}
	if len(held) == len(accountIDs) {
		return
	}
	for _, id := range accountIDs {
		if _, ok := held[id]; !ok {
			r.stale = append(r.stale, id)
		}
	}
}

// more reads and does what turns out to be needed: of most batches nothing.
func (r *reading) more(ctx context.Context, conn dbConn, b *batch) error {
	if len(r.expired) > 0 {
		var err error
		if r.freed, err = expireReservations(ctx, conn, r.expired, r.now); err != nil {
			return err
		}
		r.expired = nil
	}
	if r.looked || !b.careful && !r.reserve {
		return nil
	}
	return pipelined(ctx, conn, "", "", r.find(ctx, b))
}

// ledger returns the ledger as it was read.
func (r *reading) ledger() *ledger {
	l := newLedger(r.now, r.balances...)
	for _, f := range r.freed {
		l.hold(f.accountID, f.period, f.family, -f.held)
	}
	l.budgeted(r.budgets)
	for _, row := range r.events {
		seen := seenEvent{credits: row.Credits, late: row.Late}
		copy(seen.fingerprint[:], row.Fingerprint)
		l.accounts[row.AccountID].seen[row.ID] = seen
	}
	for _, row := range r.reserved {
		l.accounts[row.AccountID].seen[row.EventID] = seenEvent{reserved: true}
	}
	return l
}

func fromLocked(row *queries.LockOpenBalancesRow) Balance {
	return Balance{
		AccountID: row.AccountID, Period: row.Period, months: int(row.Months), reserves: row.Reserves,
		Cycle:    Cycle{Source: row.Source, Anchor: row.Anchor, Start: addMonths(row.Anchor, int(row.Months))},
		StartsAt: row.StartsAt, EndsAt: row.EndsAt, Tier: plans.Tier(row.Tier), Granted: row.Granted,
		ValidUntil: row.ValidUntil, Overage: row.Overage, OverageLimit: row.OverageLimit, OverageMicros: row.OverageMicros, OverageOff: row.OverageOff, alertAt: row.AlertAt,
		Included: row.Included,
		TTS:      row.Tts, STT: row.Stt, LLM: row.Llm, RAG: row.Rag, Held: row.Held, Requests: row.Requests,
	}
}

// budgeted takes the stored budgets that are of the current periods.
func (l *ledger) budgeted(rows []queries.LatestKeyBudgetsRow) {
	for _, row := range rows {
		if a := l.accounts[row.AccountID]; row.Period == a.balance.Period {
			b := a.budget(row.Family)
			b.used, b.held = row.Used, row.Held
		}
	}
}
