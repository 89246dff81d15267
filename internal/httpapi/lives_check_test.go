package httpapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// verify checks the whole ledger, as keymeter ledger verify does.
func (l *lifetimes) verify(t tester) {
	t.Helper()
	found, err := l.w.app.VerifyLedger(context.Background())
	require.NoError(t, err)
	require.Empty(t, found)
}

// check checks what holds for every life once it has come to rest.
func (l *lifetimes) check(t tester) {
	t.Helper()
	l.verify(t)
	for _, p := range l.pairs {
		l.twice(p, func(one *life) {
			l.checkOneSubscription(t, one)
			l.checkOverage(t, one)
			l.checkCredits(t, one)
			l.checkInvoices(t, one)
		})
	}
}

func (l *lifetimes) checkOneSubscription(t tester, one *life) {
	t.Helper()
	live := 0
	for _, s := range l.subscriptions(t, one) {
		if s.live() && s.Status != "incomplete" {
			live++
		}
	}
	if live > 1 {
		t.Fatalf("%s has %d live subscriptions", one.id, live)
	}
}

// stripeOverage is an overage at Stripe.
type stripeOverage struct {
	ID       string
	Amount   int64
	Invoice  *string
	Metadata map[string]string
}

// overageItems returns the items by the overage that they are for.
func (l *lifetimes) overageItems(t tester, one *life) map[string][]stripeOverage {
	t.Helper()
	found := map[string][]stripeOverage{}
	for _, item := range list[stripeOverage](t, l, "/v1/invoiceitems?limit=100&customer="+one.customerID) {
		if key, ok := strings.CutPrefix(item.Metadata["keymeter_key"], "overage:"); ok {
			found[key] = append(found[key], item)
		}
	}
	return found
}

// checkOverage checks that each overage in the ledger is on one invoice item, in whole cents, rounded half up, and that
// each item is for one; that what is not billed is known to be so; and that what is on an invoice can be collected.
func (l *lifetimes) checkOverage(t tester, one *life) {
	t.Helper()
	items := l.overageItems(t, one)
	invoices := map[string]lifeInvoice{}
	for _, inv := range l.invoices(t, one) {
		invoices[inv.ID] = inv
	}
	rows, err := l.w.pool.Query(context.Background(), `SELECT o.id, o.credits, o.unit_micros, o.subscription, b.state
		FROM overages o LEFT JOIN overage_bills b ON b.overage_id = o.id WHERE o.account_id = $1`, one.id)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, subscription string
		var credits, micros int64
		var state *string
		require.NoError(t, rows.Scan(&id, &credits, &micros, &subscription, &state))
		require.NotNil(t, state, "overage %s has no bill", id)
		cents := (credits*micros + 5000) / 10000
		if subscription == "own" {
			require.Equal(t, "unbilled", *state)
			cents = 0
		} else if *state != "voided" {
			require.Equal(t, "billed", *state)
		}
		if cents == 0 {
			require.Empty(t, items[id])
			continue
		}
		require.Len(t, items[id], 1, "overage %s of %d credits", id, credits)
		item := items[id][0]
		require.Equal(t, cents, item.Amount, "overage %s of %d credits at %d", id, credits, micros)
		l.checkCollected(t, *state, item, invoices)
		l.did["overage billed"]++
		delete(items, id)
	}
	require.NoError(t, rows.Err())
	require.Empty(t, items, "items without an overage")
}

// checkCollected checks that an item of overage is on an invoice that is collected, or is to come on one. A renewal that
// paused collection makes void is not, which is known.
func (l *lifetimes) checkCollected(t tester, state string, item stripeOverage, invoices map[string]lifeInvoice) {
	t.Helper()
	if item.Invoice == nil {
		require.Equal(t, "billed", state)
		return
	}
	inv := invoices[*item.Invoice]
	if state == "voided" {
		require.Equal(t, "void", inv.Status)
		l.did["overage on a renewal that is void"]++
		return
	}
	require.True(t, inv.collects(), "%+v is on %+v", item, inv)
}

type lifeInvoice struct {
	ID, Status    string
	Total         int64
	AutoAdvance   bool   `json:"auto_advance"`
	BillingReason string `json:"billing_reason"`
	Subscription  *string
	Lines         struct{ Data []invoiceLine }
}

type invoiceLine struct {
	Amount       int64
	Proration    bool
	Subscription string
	Period       struct{ Start, End int64 }
	Metadata     map[string]string
	Price        struct {
		LookupKey string `json:"lookup_key"`
	}
}

func (l *lifetimes) invoices(t tester, one *life) []lifeInvoice {
	t.Helper()
	return list[lifeInvoice](t, l, "/v1/invoices?limit=100&customer="+one.customerID)
}

// collects reports whether the invoice is paid or may still be.
func (i lifeInvoice) collects() bool {
	return i.Status == "paid" || i.Status == "open" || i.Status == "draft" && i.AutoAdvance
}

// compare checks that the twins have come to the same.
func (l *lifetimes) compare(t tester) {
	t.Helper()
	for i, p := range l.pairs {
		require.Equal(t, l.state(t, p[0]), l.state(t, p[1]), "life %d, with webhooks in order and without", i)
	}
}

// stateQueries are what an account is in, without what differs from twin to twin by chance.
var stateQueries = []string{
	`SELECT concat_ws(' ', 'account', a.tier, b.subscription_status, b.current_period_end, b.past_due_since)
		FROM accounts a JOIN billing_accounts b ON b.account_id = a.id WHERE a.id = $1`,
	`SELECT concat_ws(' ', 'period', period, starts_at, ends_at, valid_until, tier, granted, included, overage, overage_limit,
		overage_micros, overage_off, rag, requests) FROM balances WHERE account_id = $1 ORDER BY period`,
	`SELECT concat_ws(' ', 'grant', period, kind, amount, reason, created_at, expires_at)
		FROM credit_grants WHERE account_id = $1 ORDER BY 1`,
	`SELECT concat_ws(' ', 'burn', b.period, g.kind, b.credits) FROM credit_burns b JOIN credit_grants g ON g.id = b.grant_id
		WHERE b.account_id = $1 ORDER BY 1`,
	`SELECT concat_ws(' ', 'loss', l.period, g.kind, l.amount, l.cause) FROM credit_losses l
		JOIN credit_grants g ON g.id = l.grant_id WHERE l.account_id = $1 ORDER BY 1`,
	`SELECT concat_ws(' ', 'overage', o.period, o.starts_at, o.ends_at, o.credits, o.unit_micros, b.state, b.amount_cents,
		b.invoice_id IS NOT NULL) FROM overages o LEFT JOIN overage_bills b ON b.overage_id = o.id
		WHERE o.account_id = $1 ORDER BY 1`,
	`SELECT concat_ws(' ', 'topup', credits, amount_cents, reclaimed) FROM top_ups WHERE account_id = $1 ORDER BY 1`,
}

// state is what has become of a life, here and at Stripe.
func (l *lifetimes) state(t tester, one *life) (lines []string) {
	t.Helper()
	for _, query := range stateQueries {
		rows, err := l.w.pool.Query(context.Background(), query, one.id)
		require.NoError(t, err, query)
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			lines = append(lines, line)
		}
		require.NoError(t, rows.Err(), query)
	}
	for _, s := range l.subscriptions(t, one) {
		lines = append(lines, "subscription "+s.Status)
	}
	for _, inv := range l.invoices(t, one) {
		status := inv.Status
		if inv.BillingReason == "manual" && inv.collects() { // which of several comes first may decide which is paid
			status = "collected"
		}
		lines = append(lines, fmt.Sprint("invoice ", status, " ", inv.BillingReason, " ", inv.Total))
	}
	slices.Sort(lines) // what happens at once is in any order
	return lines
}

var _ tester = (*testing.T)(nil)
