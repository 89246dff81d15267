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
	// By draft, to find what is stored of them.
	ofAccounts, ids []string
	// The families of keys that have a limit.
	limitedAccounts, limited []string
}

func newBatch(submissions []*submission) *batch {
	b := &batch{}
	for _, s := range submissions {
		b.drafts = append(b.drafts, s.drafts...)
	}
	accounts := map[string]struct{}{}
	families := map[earlierKey]struct{}{}
	b.ofAccounts, b.ids = make([]string, len(b.drafts)), make([]string, len(b.drafts))
	for i, d := range b.drafts {
		b.ofAccounts[i], b.ids[i] = d.accountID, d.id
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

// tryBatch records a batch in a transaction of two round trips: one locks and reads, one writes and commits. If
// accounts have no current period it returns them and does nothing.
func (c *Credits) tryBatch(ctx context.Context, b *batch) (stale []string, err error) {
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release() // a connection that is still in a transaction is not used again
	now := c.now()
	l, stale, expired, err := readBatch(ctx, conn, b, now)
	if err == nil && len(stale) == 0 && len(expired) > 0 {
		err = l.expire(ctx, conn, expired)
	}
	if err != nil || len(stale) > 0 {
		return stale, errors.Join(err, rollback(ctx, conn))
	}
	for _, d := range b.drafts {
		l.spend(d)
	}
	if err := pipelined(ctx, conn, "", "COMMIT", l.write(ctx)); err != nil {
		return nil, errors.Join(err, rollback(ctx, conn))
	}
	return nil, nil
}

// readBatch locks the accounts' current periods, and reads what is stored of the events and budgets then.
func readBatch(ctx context.Context, conn sender, b *batch, now time.Time) (
	l *ledger, stale, expired []string, err error,
) {
	var balances []queries.LockLatestBalancesRow
	var latest []queries.LatestPeriodsRow
	var events []queries.FindEventsRow
	var reserved []queries.FindReservedEventsRow
	var budgets []queries.LatestKeyBudgetsRow
	err = pipelined(ctx, conn, "BEGIN ISOLATION LEVEL READ COMMITTED", "", func(q *queries.Queries) (err error) {
		if err = q.PlanBatch(ctx); err != nil {
			return err
		}
		balances, err = q.LockLatestBalances(ctx, queries.LockLatestBalancesParams{AccountIds: b.accountIDs, Now: now})
		if err != nil {
			return err
		}
		if latest, err = q.LatestPeriods(ctx, b.accountIDs); err != nil {
			return err
		}
		events, err = q.FindEvents(ctx, queries.FindEventsParams{AccountIds: b.ofAccounts, Ids: b.ids})
		if err != nil {
			return err
		}
		reserved, err = q.FindReservedEvents(ctx, queries.FindReservedEventsParams{AccountIds: b.ofAccounts, Ids: b.ids})
		if err != nil || len(b.limited) == 0 {
			return err
		}
		budgets, err = q.LatestKeyBudgets(ctx,
			queries.LatestKeyBudgetsParams{AccountIds: b.limitedAccounts, Families: b.limited})
		return err
	})
	if err != nil {
		return nil, nil, nil, err
	}
	l, stale, expired = current(b.accountIDs, balances, latest, now)
	if len(stale) == 0 {
		l.see(events, reserved)
		l.budgeted(budgets)
	}
	return l, stale, expired, nil
}

// current returns a ledger of the locked periods that are the accounts' current ones. stale are the accounts without:
// while we waited for its row, a period may have ended and another begun. Once we hold the last one none can.
func current(
	accountIDs []string, balances []queries.LockLatestBalancesRow, latest []queries.LatestPeriodsRow, now time.Time,
) (l *ledger, stale, expired []string) {
	last := make(map[string]int32, len(latest))
	for _, row := range latest {
		last[row.AccountID] = row.Period
	}
	l = newLedger(now)
	for i := range balances {
		b := fromLocked(&balances[i])
		if !now.Before(b.EndsAt) || b.Period != last[b.AccountID] {
			continue
		}
		l.add(b)
		if balances[i].Expired {
			expired = append(expired, b.AccountID)
		}
	}
	for _, id := range accountIDs {
		if l.accounts[id] == nil {
			stale = append(stale, id)
		}
	}
	return l, stale, expired
}

func fromLocked(row *queries.LockLatestBalancesRow) Balance {
	return Balance{
		AccountID: row.AccountID, Period: row.Period, months: int(row.Months),
		Cycle:    Cycle{Source: row.Source, Anchor: row.Anchor, Start: addMonths(row.Anchor, int(row.Months))},
		StartsAt: row.StartsAt, EndsAt: row.EndsAt, Tier: plans.Tier(row.Tier), Capped: row.Capped, Granted: row.Granted,
		Included: row.Included,
		TTS:      row.Tts, STT: row.Stt, LLM: row.Llm, RAG: row.Rag, Held: row.Held, Requests: row.Requests,
	}
}

func (l *ledger) see(events []queries.FindEventsRow, reserved []queries.FindReservedEventsRow) {
	for _, row := range events {
		seen := seenEvent{credits: row.Credits, late: row.Late}
		copy(seen.fingerprint[:], row.Fingerprint)
		l.accounts[row.AccountID].seen[row.ID] = seen
	}
	for _, row := range reserved {
		l.accounts[row.AccountID].seen[row.EventID] = seenEvent{reserved: true}
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
