package credits

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
)

// expire frees what is held by reservations of the accounts that have run out.
func (l *ledger) expire(ctx context.Context, db queries.DBTX, accountIDs []string) error {
	freed, err := queries.New(db).ExpireReservations(ctx,
		queries.ExpireReservationsParams{AccountIds: accountIDs, Now: l.now})
	for _, row := range freed {
		l.hold(row.AccountID, row.Period, row.Family, -row.Held)
	}
	return err
}

// write returns the queries that write what has been decided.
func (l *ledger) write(ctx context.Context) func(q *queries.Queries) error {
	events, balances, totals, budgets := l.eventParams(), l.balanceParams(), l.totalParams(), l.budgetParams()
	return func(q *queries.Queries) error {
		if len(events.Ids) > 0 {
			if err := q.InsertEvents(ctx, events); err != nil {
				return err
			}
			if err := q.AddToUsageTotals(ctx, totals); err != nil {
				return err
			}
		}
		if len(budgets.Families) > 0 {
			if err := q.EnsureKeyBudgets(ctx, queries.EnsureKeyBudgetsParams{
				AccountIds: budgets.AccountIds, Families: budgets.Families, Periods: budgets.Periods,
			}); err != nil {
				return err
			}
			if err := q.AddToKeyBudgets(ctx, budgets); err != nil {
				return err
			}
		}
		if len(balances.AccountIds) == 0 {
			return nil
		}
		return q.AddToBalances(ctx, balances)
	}
}

func (l *ledger) eventParams() queries.InsertEventsParams {
	n := len(l.events)
	p := queries.InsertEventsParams{
		RecordedAt: l.now, AccountIds: make([]string, n), Ids: make([]string, n), Periods: make([]int32, n),
		KeyIds: make([]string, n), Categories: make([]string, n), Providers: make([]string, n),
		Quantities: make([]int64, n), OutputQuantities: make([]int64, n), Byoks: make([]bool, n),
		Credits: make([]int64, n), Uncollecteds: make([]int64, n), Lates: make([]bool, n), Reverses: make([]string, n),
		OccurredAts: make([]time.Time, n), Fingerprints: make([][]byte, n),
	}
	for i := range l.events {
		e := &l.events[i]
		p.AccountIds[i], p.Ids[i], p.Periods[i], p.KeyIds[i] = e.accountID, e.id, e.period, e.keyID
		p.Categories[i], p.Providers[i] = string(e.category), e.provider
		p.Quantities[i], p.OutputQuantities[i], p.Byoks[i] = e.quantity, e.output, e.byok
		p.Credits[i], p.Uncollecteds[i], p.Lates[i], p.Reverses[i] = e.credits, e.uncollected, e.late, e.reverses
		p.OccurredAts[i], p.Fingerprints[i] = e.occurredAt, e.fingerprint[:]
	}
	return p
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
