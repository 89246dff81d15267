package credits

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
)

// dbConn is a connection or a transaction.
type dbConn interface {
	queries.DBTX
	sender
}

// freed is what a reservation does not hold any more.
type freed struct {
	accountID, family string
	period            int32
	held              int64
}

// expireReservations ends the reservations of the accounts that have run out.
func expireReservations(ctx context.Context, db queries.DBTX, accountIDs []string, now time.Time) ([]freed, error) {
	rows, err := queries.New(db).ExpireReservations(ctx,
		queries.ExpireReservationsParams{AccountIds: accountIDs, Now: now})
	ended := make([]freed, len(rows))
	for i, row := range rows {
		ended[i] = freed{accountID: row.AccountID, family: row.Family, period: row.Period, held: row.Held}
	}
	return ended, err
}

// expire frees what is held by reservations of the accounts that have run out.
func (l *ledger) expire(ctx context.Context, db queries.DBTX, accountIDs []string) error {
	ended, err := expireReservations(ctx, db, accountIDs, l.now)
	for _, f := range ended {
		l.hold(f.accountID, f.period, f.family, -f.held)
	}
	return err
}

// insertEvents writes the events that have been decided. COPY costs Postgres two thirds of an INSERT.
func (l *ledger) insertEvents(ctx context.Context, db queries.DBTX) error {
	if len(l.events) == 0 {
		return nil
	}
	// In the order of the indexes, neighbours are found at once.
	slices.SortFunc(l.events, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.accountID, b.accountID), cmp.Compare(a.id, b.id))
	})
	rows := make([]queries.InsertEventsParams, len(l.events))
	for i := range l.events {
		e := &l.events[i]
		rows[i] = queries.InsertEventsParams{
			AccountID: e.accountID, ID: e.id, Period: e.period, KeyID: optional(e.keyID), Category: string(e.category),
			Provider: optional(e.provider), Quantity: orNone(e.quantity), OutputQuantity: orNone(e.output), Byok: e.byok,
			Credits: e.credits, Uncollected: e.uncollected, Late: e.late, Reverses: optional(e.reverses),
			OccurredAt: e.occurredAt, RecordedAt: l.now, Fingerprint: e.fingerprint[:],
		}
	}
	_, err := queries.New(db).InsertEvents(ctx, rows)
	return err
}

// writeAll writes what has been decided.
func (l *ledger) writeAll(ctx context.Context, db dbConn) error {
	if err := l.insertEvents(ctx, db); err != nil {
		return err
	}
	return pipelined(ctx, db, "", "", l.write(ctx))
}

// write returns the queries that write the sums of what has been decided.
func (l *ledger) write(ctx context.Context) func(q *queries.Queries) error {
	balances, totals, budgets := l.balanceParams(), l.totalParams(), l.budgetParams()
	hours := hoursOf(totals)
	return func(q *queries.Queries) error {
		if len(totals.AccountIds) > 0 {
			if err := q.AddToUsageTotals(ctx, totals); err != nil {
				return err
			}
			if err := q.AddToUsageHours(ctx, hours); err != nil {
				return err
			}
		}
		if len(budgets.Families) > 0 {
			if err := writeBudgets(ctx, q, budgets); err != nil {
				return err
			}
		}
		if len(balances.AccountIds) == 0 {
			return nil
		}
		return q.AddToBalances(ctx, balances)
	}
}

// writeBudgets writes what keys spent; in one query, where it can.
func writeBudgets(ctx context.Context, q *queries.Queries, p queries.AddToKeyBudgetsParams) error {
	if slices.Min(p.Used) >= 0 && slices.Min(p.Held) >= 0 && !slices.Contains(p.CreditLimits, unchangedLimit) {
		return q.SpendKeyBudgets(ctx, queries.SpendKeyBudgetsParams(p))
	}
	err := q.EnsureKeyBudgets(ctx, queries.EnsureKeyBudgetsParams{
		AccountIds: p.AccountIds, Families: p.Families, Periods: p.Periods,
	})
	if err != nil {
		return err
	}
	return q.AddToKeyBudgets(ctx, p)
}

func (l *ledger) balanceParams() queries.AddToBalancesParams {
	var p queries.AddToBalancesParams
	add := func(accountID string, period int32, d Balance) {
		p.AccountIds, p.Periods = append(p.AccountIds, accountID), append(p.Periods, period)
		p.Tts, p.Stt, p.Llm, p.Rag = append(p.Tts, d.TTS), append(p.Stt, d.STT), append(p.Llm, d.LLM), append(p.Rag, d.RAG)
		p.Requests, p.Held, p.Granted = append(p.Requests, d.Requests), append(p.Held, d.Held), append(p.Granted, d.Granted)
	}
	for id, a := range l.accounts {
		if a.balance != a.stored {
			add(id, a.balance.Period, a.balance.since(a.stored))
		}
	}
	for key, held := range l.earlier {
		if key.family == "" {
			add(key.accountID, key.period, Balance{Held: held})
		}
	}
	return p
}

func (l *ledger) totalParams() queries.AddToUsageTotalsParams {
	var p queries.AddToUsageTotalsParams
	for _, key := range slices.SortedFunc(maps.Keys(l.totals), compareTotals) {
		sum := l.totals[key]
		p.AccountIds, p.KeyIds = append(p.AccountIds, key.accountID), append(p.KeyIds, key.keyID)
		p.Hours, p.Categories = append(p.Hours, time.Unix(key.hour, 0)), append(p.Categories, string(key.category))
		p.Credits, p.Requests = append(p.Credits, sum.credits), append(p.Requests, sum.requests)
	}
	return p
}

// hoursOf adds up what the totals of an account's keys have in common.
func hoursOf(totals queries.AddToUsageTotalsParams) queries.AddToUsageHoursParams {
	var p queries.AddToUsageHoursParams
	at := map[totalKey]int{}
	for i, accountID := range totals.AccountIds {
		key := totalKey{
			accountID: accountID, hour: totals.Hours[i].Unix(), category: plans.Category(totals.Categories[i]),
		}
		n, ok := at[key]
		if !ok {
			n = len(p.AccountIds)
			at[key] = n
			p.AccountIds, p.Hours = append(p.AccountIds, accountID), append(p.Hours, totals.Hours[i])
			p.Categories, p.Credits, p.Requests = append(p.Categories, totals.Categories[i]), append(p.Credits, 0), append(p.Requests, 0)
		}
		p.Credits[n] += totals.Credits[i]
		p.Requests[n] += totals.Requests[i]
	}
	return p
}

func compareTotals(a, b totalKey) int {
	return cmp.Or(cmp.Compare(a.accountID, b.accountID), cmp.Compare(a.hour, b.hour), cmp.Compare(a.keyID, b.keyID),
		cmp.Compare(a.category, b.category))
}

func (l *ledger) budgetParams() queries.AddToKeyBudgetsParams {
	var p queries.AddToKeyBudgetsParams
	add := func(accountID, family string, period int32, used, held, limit int64) {
		p.AccountIds, p.Families = append(p.AccountIds, accountID), append(p.Families, family)
		p.Periods, p.Used = append(p.Periods, period), append(p.Used, used)
		p.Held, p.CreditLimits = append(p.Held, held), append(p.CreditLimits, limit)
	}
	for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
		a := l.accounts[id]
		for _, family := range slices.Sorted(maps.Keys(a.budgets)) {
			if b := a.budgets[family]; b.limit != unchangedLimit || b.addUsed != 0 || b.addHeld != 0 {
				add(id, family, a.balance.Period, b.addUsed, b.addHeld, b.limit)
			}
		}
	}
	for key, held := range l.earlier {
		if key.family != "" {
			add(key.accountID, key.family, key.period, 0, held, unchangedLimit)
		}
	}
	return p
}
